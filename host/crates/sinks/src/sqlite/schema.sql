-- The tables of TimescaleDB under the same names, as SQLite has them. Times are INTEGER: microseconds since 1970-01-01 UTC,
-- which keeps them exact, small and sortable; `metrics_readable` and `alerts_readable` show them as ISO 8601.
CREATE TABLE IF NOT EXISTS metrics (
    time      INTEGER NOT NULL,
    topic     TEXT    NOT NULL,
    value     REAL,             -- NULL where the reading is no number
    value_str TEXT,             -- readings that are text, and integers beyond 2^53 in full
    quality   INTEGER NOT NULL, -- OPC quality: 192 good, 64 uncertain, 0 bad
    unit      TEXT
);
CREATE INDEX IF NOT EXISTS metrics_topic_time ON metrics (topic, time);

CREATE TABLE IF NOT EXISTS alerts (
    time       INTEGER NOT NULL,
    rule       TEXT    NOT NULL,
    topic      TEXT    NOT NULL,
    key        TEXT    NOT NULL, -- tells apart several alerts of one rule on one topic; '' for most
    transition TEXT    NOT NULL, -- raised, cleared, event
    severity   TEXT    NOT NULL, -- info, warning, critical
    value      REAL,
    message    TEXT    NOT NULL
);
CREATE INDEX IF NOT EXISTS alerts_time ON alerts (time);

CREATE TABLE IF NOT EXISTS series (
    topic  TEXT PRIMARY KEY,
    unit   TEXT,
    labels TEXT NOT NULL -- a JSON object
) WITHOUT ROWID;

CREATE VIEW IF NOT EXISTS metrics_readable AS
SELECT strftime('%Y-%m-%dT%H:%M:%S', (time - (time % 1000000 + 1000000) % 1000000) / 1000000, 'unixepoch')
       || printf('.%06dZ', (time % 1000000 + 1000000) % 1000000) AS time,
       topic, value, value_str, quality, unit
FROM metrics;

CREATE VIEW IF NOT EXISTS alerts_readable AS
SELECT strftime('%Y-%m-%dT%H:%M:%S', (time - (time % 1000000 + 1000000) % 1000000) / 1000000, 'unixepoch')
       || printf('.%06dZ', (time % 1000000 + 1000000) % 1000000) AS time,
       rule, topic, key, transition, severity, value, message
FROM alerts;
