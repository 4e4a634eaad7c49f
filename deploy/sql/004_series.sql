-- What is known of each series. Tidegate runs this itself where manage_schema = true and the table is missing. By hand:
--   psql [-v schema=plant] -f deploy/sql/004_series.sql
\if :{?schema}
\else
\set schema public
\endif
\set series '"' :schema '"."series"'

CREATE TABLE IF NOT EXISTS :series (
    topic  text PRIMARY KEY,
    unit   text,
    labels jsonb NOT NULL DEFAULT '{}'
);
