-- What is known of each series.
\ir names.psql

CREATE TABLE IF NOT EXISTS :"schema".:"series" (
    topic  text PRIMARY KEY,
    unit   text,
    labels jsonb NOT NULL DEFAULT '{}'
);
