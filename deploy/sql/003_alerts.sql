-- Alerts, every transition a row. Tidegate runs this itself where manage_schema = true and the table is missing. By hand:
--   psql [-v schema=plant] -f deploy/sql/003_alerts.sql
\if :{?schema}
\else
\set schema public
\endif
\set alerts '"' :schema '"."alerts"'

CREATE TABLE IF NOT EXISTS :alerts (
    time       timestamptz NOT NULL,
    rule       text        NOT NULL,
    topic      text        NOT NULL,
    key        text        NOT NULL, -- tells apart several alerts of one rule on one topic; '' for most
    transition text        NOT NULL, -- raised, cleared, event
    severity   text        NOT NULL, -- info, warning, critical
    value      double precision,
    message    text        NOT NULL
);

CREATE INDEX IF NOT EXISTS alerts_time ON :alerts (time DESC);
