-- The alerts, every transition a row.
\ir names.psql

CREATE TABLE IF NOT EXISTS :"schema".:"alerts" (
    time       timestamptz NOT NULL,
    rule       text        NOT NULL,
    topic      text        NOT NULL,
    key        text        NOT NULL, -- tells apart several alerts of one rule on one topic; '' for most
    transition text        NOT NULL, -- raised, cleared, event
    severity   text        NOT NULL, -- info, warning, critical
    value      double precision,
    message    text        NOT NULL
);

CREATE INDEX IF NOT EXISTS alerts_time ON :"schema".:"alerts" (time DESC);
