-- Chunks are compressed when they are a week old, each topic by itself. Needs TimescaleDB under its Community licence.
\ir names.psql

ALTER TABLE :"schema".:"table" SET (timescaledb.compress, timescaledb.compress_segmentby = :'segment_by',
                                    timescaledb.compress_orderby = :'order_by');

SELECT add_compression_policy(format('%I.%I', :'schema', :'table')::regclass, compress_after => INTERVAL :'compress_after',
                              if_not_exists => TRUE);
