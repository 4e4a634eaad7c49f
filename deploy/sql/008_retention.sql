-- Chunks are dropped when they are 90 days old. Needs TimescaleDB under its Community licence.
\ir names.psql

SELECT add_retention_policy(format('%I.%I', :'schema', :'table')::regclass, drop_after => INTERVAL :'retain',
                            if_not_exists => TRUE);
