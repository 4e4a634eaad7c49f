-- The points.
\ir names.psql

CREATE TABLE IF NOT EXISTS :"schema".:"table" (
    :"c_time"      timestamptz NOT NULL,
    :"c_topic"     text        NOT NULL,
    :"c_value"     double precision,     -- NULL where the reading is no number
    :"c_value_str" text,                 -- readings that are text, and integers beyond 2^53 in full
    :"c_quality"   smallint    NOT NULL, -- OPC quality: 192 good, 64 uncertain, 0 bad
    :"c_unit"      text
);
