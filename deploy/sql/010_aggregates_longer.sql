-- The points by hour and by day, each made of the one before. Needs TimescaleDB 2.9 or later under its Community licence, and 009.
\ir names.psql

CREATE MATERIALIZED VIEW IF NOT EXISTS :"schema".:"hour"
    WITH (timescaledb.continuous, timescaledb.materialized_only = FALSE) AS
SELECT time_bucket(INTERVAL '1 hour', bucket) AS bucket,
       topic,
       sum(sum) / nullif(sum(samples), 0)     AS avg,
       min(min)                               AS min,
       max(max)                               AS max,
       sum(sum)                               AS sum,
       sum(samples)                           AS samples,
       first(first, bucket) FILTER (WHERE first IS NOT NULL) AS first,
       last(last, bucket) FILTER (WHERE last IS NOT NULL)    AS last
FROM :"schema".:"minute"
GROUP BY 1, 2
WITH NO DATA;

SELECT add_continuous_aggregate_policy(format('%I.%I', :'schema', :'hour')::regclass, start_offset => INTERVAL :'hour_window',
                                       end_offset => INTERVAL :'hour_behind', schedule_interval => INTERVAL :'hour_every',
                                       if_not_exists => TRUE);

CREATE MATERIALIZED VIEW IF NOT EXISTS :"schema".:"day"
    WITH (timescaledb.continuous, timescaledb.materialized_only = FALSE) AS
SELECT time_bucket(INTERVAL '1 day', bucket)  AS bucket,
       topic,
       sum(sum) / nullif(sum(samples), 0)     AS avg,
       min(min)                               AS min,
       max(max)                               AS max,
       sum(sum)                               AS sum,
       sum(samples)                           AS samples,
       first(first, bucket) FILTER (WHERE first IS NOT NULL) AS first,
       last(last, bucket) FILTER (WHERE last IS NOT NULL)    AS last
FROM :"schema".:"hour"
GROUP BY 1, 2
WITH NO DATA;

SELECT add_continuous_aggregate_policy(format('%I.%I', :'schema', :'day')::regclass, start_offset => INTERVAL :'day_window',
                                       end_offset => INTERVAL :'day_behind', schedule_interval => INTERVAL :'day_every',
                                       if_not_exists => TRUE);
