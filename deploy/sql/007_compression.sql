-- Chunks are compressed when they are a week old, each topic by itself. Needs TimescaleDB under its Community licence.
\ir names.psql

-- A table that is compressed already keeps its settings: somebody may have chosen them, and before TimescaleDB 2.14 they cannot be changed any more.
SELECT set_config('tidegate.schema', :'schema', FALSE), set_config('tidegate.table', :'table', FALSE),
       set_config('tidegate.segment_by', :'segment_by', FALSE), set_config('tidegate.order_by', :'order_by', FALSE);

DO $$
BEGIN
    IF NOT EXISTS (SELECT FROM timescaledb_information.hypertables
                   WHERE hypertable_schema = current_setting('tidegate.schema')
                     AND hypertable_name = current_setting('tidegate.table') AND compression_enabled) THEN
        EXECUTE format('ALTER TABLE %I.%I SET (timescaledb.compress, timescaledb.compress_segmentby = %L, '
                       'timescaledb.compress_orderby = %L)',
                       current_setting('tidegate.schema'), current_setting('tidegate.table'),
                       current_setting('tidegate.segment_by'), current_setting('tidegate.order_by'));
    END IF;
END
$$;

SELECT add_compression_policy(format('%I.%I', :'schema', :'table')::regclass, compress_after => INTERVAL :'compress_after',
                              if_not_exists => TRUE);
