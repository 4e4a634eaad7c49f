-- The index that queries of a series use, and that lets no topic and time be stored twice: for dedupe = true, instead of 003.
-- Fails where there are such rows already, and names one.
\ir names.psql

CREATE UNIQUE INDEX IF NOT EXISTS :"once" ON :"schema".:"table" (:"c_topic", :"c_time" DESC);
