-- Messages that could not be used, byte for byte. Times are microseconds since 1970-01-01 UTC.
CREATE TABLE IF NOT EXISTS dead_letters (
    id          INTEGER PRIMARY KEY AUTOINCREMENT, -- never given twice, also after a purge
    died_us     INTEGER NOT NULL,
    received_us INTEGER NOT NULL,
    source      TEXT    NOT NULL,
    topic       TEXT    NOT NULL,
    marks       INTEGER NOT NULL, -- bits: 1 retained, 2 redelivered, 4 replayed
    payload     BLOB    NOT NULL,
    stage       TEXT    NOT NULL, -- route, decode, process, sink, parked
    rule        TEXT,
    module      TEXT,             -- sha256 of the module, in hex
    reason      TEXT    NOT NULL,
    backtrace   TEXT
);

-- User properties, headers and key, in the order they came.
CREATE TABLE IF NOT EXISTS dead_letter_properties (
    dead_letter INTEGER NOT NULL REFERENCES dead_letters (id) ON DELETE CASCADE,
    position    INTEGER NOT NULL,
    key         TEXT    NOT NULL,
    value       BLOB    NOT NULL,
    PRIMARY KEY (dead_letter, position)
) WITHOUT ROWID;

-- What retention and most questions of people go by.
CREATE INDEX IF NOT EXISTS dead_letters_died ON dead_letters (died_us);

-- Rows that wait for a rule to be called again: few or none, so that who looks for them every second reads nothing.
CREATE INDEX IF NOT EXISTS dead_letters_parked ON dead_letters (rule, id) WHERE stage = 'parked';

-- Those that an operator wants back among the messages; gone with the letter when that has happened.
CREATE TABLE IF NOT EXISTS dead_letter_replays (
    dead_letter  INTEGER PRIMARY KEY REFERENCES dead_letters (id) ON DELETE CASCADE,
    requested_us INTEGER NOT NULL
);
