-- The points by hour and by day, each made of the points: for TimescaleDB 2.7 and 2.8 under its Community licence, which make no aggregate of an
-- aggregate; later ones have 010 instead.
\ir names.psql

CREATE MATERIALIZED VIEW IF NOT EXISTS :"schema".:"hour"
    WITH (timescaledb.continuous, timescaledb.materialized_only = FALSE) AS
SELECT time_bucket(INTERVAL '1 hour', :"c_time") AS bucket,
       :"c_topic"                                AS topic,
       avg(:"c_value")                           AS avg,
       min(:"c_value")                           AS min,
       max(:"c_value")                           AS max,
       sum(:"c_value")                           AS sum,
       count(:"c_value")                         AS samples,
       first(:"c_value", :"c_time") FILTER (WHERE :"c_value" IS NOT NULL) AS first,
       last(:"c_value", :"c_time") FILTER (WHERE :"c_value" IS NOT NULL)  AS last
FROM :"schema".:"table"
GROUP BY 1, 2
WITH NO DATA;

SELECT add_continuous_aggregate_policy(format('%I.%I', :'schema', :'hour')::regclass, start_offset => INTERVAL :'hour_window',
                                       end_offset => INTERVAL :'hour_behind', schedule_interval => INTERVAL :'hour_every',
                                       if_not_exists => TRUE);

CREATE MATERIALIZED VIEW IF NOT EXISTS :"schema".:"day"
    WITH (timescaledb.continuous, timescaledb.materialized_only = FALSE) AS
SELECT time_bucket(INTERVAL '1 day', :"c_time") AS bucket,
       :"c_topic"                                AS topic,
       avg(:"c_value")                           AS avg,
       min(:"c_value")                           AS min,
       max(:"c_value")                           AS max,
       sum(:"c_value")                           AS sum,
       count(:"c_value")                         AS samples,
       first(:"c_value", :"c_time") FILTER (WHERE :"c_value" IS NOT NULL) AS first,
       last(:"c_value", :"c_time") FILTER (WHERE :"c_value" IS NOT NULL)  AS last
FROM :"schema".:"table"
GROUP BY 1, 2
WITH NO DATA;

SELECT add_continuous_aggregate_policy(format('%I.%I', :'schema', :'day')::regclass, start_offset => INTERVAL :'day_window',
                                       end_offset => INTERVAL :'day_behind', schedule_interval => INTERVAL :'day_every',
                                       if_not_exists => TRUE);
