-- The points by minute. What is newer than the last refresh is summed up when it is asked for. Needs TimescaleDB under its Community
-- licence.
\ir names.psql

CREATE MATERIALIZED VIEW IF NOT EXISTS :"schema".:"minute"
    WITH (timescaledb.continuous, timescaledb.materialized_only = FALSE) AS
SELECT time_bucket(INTERVAL '1 minute', :"c_time") AS bucket,
       :"c_topic"                                  AS topic,
       avg(:"c_value")                             AS avg,
       min(:"c_value")                             AS min,
       max(:"c_value")                             AS max,
       sum(:"c_value")                             AS sum,
       count(:"c_value")                           AS samples, -- with a number
       first(:"c_value", :"c_time")                AS first,
       last(:"c_value", :"c_time")                 AS last
FROM :"schema".:"table"
GROUP BY 1, 2
WITH NO DATA;

-- What comes late within the window is taken in; older changes wait for CALL refresh_continuous_aggregate.
SELECT add_continuous_aggregate_policy(format('%I.%I', :'schema', :'minute')::regclass, start_offset => INTERVAL :'minute_window',
                                       end_offset => INTERVAL '1 minute', schedule_interval => INTERVAL '1 minute',
                                       if_not_exists => TRUE);
