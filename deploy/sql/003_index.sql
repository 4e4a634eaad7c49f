-- The index that queries of a series use.
\ir names.psql

CREATE INDEX IF NOT EXISTS :"index" ON :"schema".:"table" (:"c_topic", :"c_time" DESC);
