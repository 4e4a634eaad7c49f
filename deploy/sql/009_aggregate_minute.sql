-- The points by minute. What is newer than the last refresh is summed up when it is asked for. Needs TimescaleDB 2.7 or later under its
-- Community licence.
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
       -- Of those with a number: a text or a NaN between has none.
       first(:"c_value", :"c_time") FILTER (WHERE :"c_value" IS NOT NULL) AS first,
       last(:"c_value", :"c_time") FILTER (WHERE :"c_value" IS NOT NULL)  AS last
FROM :"schema".:"table"
GROUP BY 1, 2
WITH NO DATA;

-- What comes late within the window is taken in; older changes wait for CALL refresh_continuous_aggregate.
SELECT add_continuous_aggregate_policy(format('%I.%I', :'schema', :'minute')::regclass, start_offset => INTERVAL :'minute_window',
                                       end_offset => INTERVAL :'minute_behind', schedule_interval => INTERVAL :'minute_every',
                                       if_not_exists => TRUE);
