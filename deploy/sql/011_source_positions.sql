-- How far the partitions of Kafka topics are stored, for exactly_once = "kafka": each row changes in the transaction of the points.
\ir names.psql

CREATE TABLE IF NOT EXISTS :"schema".source_positions (
    cluster         text        NOT NULL, -- the id that the brokers have for it
    consumer_group  text        NOT NULL,
    topic           text        NOT NULL,
    partition       integer     NOT NULL,
    next_offset     bigint      NOT NULL, -- all before it is stored
    previous_offset bigint      NOT NULL DEFAULT 0, -- where it stood before the last write
    updated_at      timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (cluster, consumer_group, topic, partition)
);
