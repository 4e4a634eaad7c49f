-- Points. Tidegate runs this itself where manage_schema = true and the table is missing. By hand, for public.metrics or for another:
--   psql -f deploy/sql/001_metrics.sql
--   psql -v schema=plant -v table=readings -f deploy/sql/001_metrics.sql
\if :{?schema}
\else
\set schema public
\endif
\if :{?table}
\else
\set table metrics
\endif
\set metrics '"' :schema '"."' :table '"'
\set metrics_index '"' :table '_topic_time"'

CREATE TABLE IF NOT EXISTS :metrics (
    time      timestamptz NOT NULL,
    topic     text        NOT NULL,
    value     double precision,     -- NULL where the reading is no number
    value_str text,                 -- readings that are text, and integers beyond 2^53 in full
    quality   smallint    NOT NULL, -- OPC quality: 192 good, 64 uncertain, 0 bad
    unit      text
);

CREATE INDEX IF NOT EXISTS :metrics_index ON :metrics (topic, time DESC);
