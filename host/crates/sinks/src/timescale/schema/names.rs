//! What the tables and columns are called, and the statements that follow from it.

use tidegate_config::{Offsets, Repeats, TableNames, TimescaleSink};

use super::super::stage;
use super::steps::{File, Part};

/// The tables by their names, quoted for SQL, and what is said to them in every write.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in super::super) struct Tables {
    pub(in super::super) metrics: String,
    pub(in super::super) alerts: String,
    pub(in super::super) series: String,
    pub(in super::super) positions: String,
    pub(in super::super) copy_points: String,
    pub(in super::super) copy_to_stage: String,
    pub(in super::super) copy_alerts: String,
    pub(in super::super) upsert_series: String,
    pub(in super::super) move_over: String,
    pub(in super::super) count_differing: String,
    pub(in super::super) count_absent: String,
    pub(in super::super) advance: String,
    /// What its user must be permitted, for people.
    pub(in super::super) grants: String,
    /// As configured, for deploy/sql.
    pub(super) names: TableNames,
}

impl Tables {
    /// The tables that the settings name.
    pub(in super::super) fn new(settings: &TimescaleSink) -> Self {
        let names = settings.names.clone();
        let prefix =
            names.table.split_once('.').map(|(schema, _)| format!("{}.", quoted(schema))).unwrap_or_default();
        let full = |name: &str| format!("{prefix}{}", quoted(name));
        let (metrics, alerts, series) = (full(names.own_table()), full(&names.alerts), full(&names.series));
        let positions = full("source_positions");
        let columns = names.columns.all().map(quoted);
        let [time, topic, value, value_str, ..] = &columns;
        let columns = columns.join(", ");
        let mut grants = format!("grant INSERT on {metrics} and {alerts}, SELECT, INSERT, UPDATE on {series}");
        if settings.offsets == Offsets::WithPoints {
            grants.push_str(&format!(", SELECT, INSERT, UPDATE on {positions} (exactly_once)"));
        }
        if settings.repeats == Repeats::Dropped {
            grants.push_str(&format!(", SELECT on {metrics} and TEMPORARY on the database (dedupe)"));
        }
        grants
            .push_str(" to this user, and USAGE on their schema; CREATE on it too, if it shall make what is missing");
        Self {
            grants,
            copy_points: format!("COPY {metrics} ({columns}) FROM STDIN (FORMAT binary)"),
            copy_to_stage: format!("COPY {} FROM STDIN (FORMAT binary)", stage::COLUMNS),
            copy_alerts: format!(
                "COPY {alerts} (time, rule, topic, key, transition, severity, value, message) FROM STDIN (FORMAT binary)"
            ),
            // What is there already as it is now takes no lock: after each fault all series of a write are told anew.
            upsert_series: format!(
                "INSERT INTO {series} AS known (topic, unit, labels) \
                 SELECT * FROM (SELECT topic, unit, labels::jsonb FROM unnest($1::text[], $2::text[], $3::text[]) AS n (topic, unit, labels)) AS new \
                 WHERE NOT EXISTS (SELECT FROM {series} AS old WHERE old.topic = new.topic \
                 AND (old.unit, old.labels) IS NOT DISTINCT FROM (new.unit, new.labels)) ORDER BY topic \
                 ON CONFLICT (topic) DO UPDATE SET unit = excluded.unit, labels = excluded.labels \
                 WHERE (known.unit, known.labels) IS DISTINCT FROM (excluded.unit, excluded.labels)"
            ),
            move_over: format!(
                "INSERT INTO {metrics} ({columns}) SELECT time, topic, value, value_str, quality, unit \
                 FROM pg_temp.tidegate_stage ON CONFLICT ({topic}, {time}) DO NOTHING"
            ),
            // The bounds keep the search out of all chunks but those the rows are in.
            count_differing: format!(
                "SELECT count(*) FROM pg_temp.tidegate_stage AS new JOIN {metrics} AS old \
                 ON old.{topic} = new.topic AND old.{time} = new.time \
                 WHERE old.{time} BETWEEN (SELECT min(time) FROM pg_temp.tidegate_stage) \
                 AND (SELECT max(time) FROM pg_temp.tidegate_stage) \
                 AND (old.{value}, old.{value_str}) IS DISTINCT FROM (new.value, new.value_str)"
            ),
            count_absent: format!(
                "SELECT count(*) FROM pg_temp.tidegate_stage AS new WHERE NOT EXISTS (SELECT FROM {metrics} AS old \
                 WHERE old.{topic} = new.topic AND old.{time} = new.time \
                 AND old.{time} BETWEEN (SELECT min(time) FROM pg_temp.tidegate_stage) \
                 AND (SELECT max(time) FROM pg_temp.tidegate_stage))"
            ),
            // Locks the row, whoever made it, and tells where it stood: what is before that is in the table.
            advance: format!(
                "INSERT INTO {positions} AS known (cluster, consumer_group, topic, partition, next_offset) \
                 SELECT * FROM unnest($1::text[], $2::text[], $3::text[], $4::int4[], $5::int8[]) ORDER BY 1, 2, 3, 4 \
                 ON CONFLICT (cluster, consumer_group, topic, partition) DO UPDATE SET previous_offset = known.next_offset, \
                 next_offset = greatest(known.next_offset, excluded.next_offset), updated_at = now() \
                 RETURNING cluster, consumer_group, topic, partition, coalesce(previous_offset, 0)"
            ),
            metrics,
            alerts,
            series,
            positions,
            names,
        }
    }

    /// The points' table and the aggregates of it, without their schema.
    pub(in super::super) fn kept_by_jobs(&self) -> [String; 4] {
        ["", "_1min", "_1hour", "_1day"].map(|end| format!("{}{end}", self.names.own_table()))
    }

    /// A file of deploy/sql for these names in `schema`: psql's own lines (`\…`) left out, its variables put in.
    pub(super) fn fill_in(&self, file: &File, schema: &str, settings: &TimescaleSink) -> String {
        let upkeep = &settings.upkeep;
        let columns = &self.names.columns;
        let table = self.names.own_table();
        let [_, minute, hour, day] = self.kept_by_jobs();
        let named = [
            ("schema", schema.to_owned()),
            ("table", table.to_owned()),
            ("alerts", self.names.alerts.clone()),
            ("series", self.names.series.clone()),
            ("index", format!("{table}_topic_time")),
            ("once", format!("{table}_topic_time_once")),
            ("minute", minute),
            ("hour", hour),
            ("day", day),
            ("c_time", columns.time.clone()),
            ("c_topic", columns.topic.clone()),
            ("c_value", columns.value.clone()),
            ("c_value_str", columns.value_str.clone()),
            ("c_quality", columns.quality.clone()),
            ("c_unit", columns.unit.clone()),
            ("segment_by", quoted(&columns.topic)),
            ("order_by", format!("{} DESC", quoted(&columns.time))),
            ("chunk", format!("{} hours", upkeep.chunk_hours)),
            ("compress_after", format!("{} days", upkeep.compress_after_days.unwrap_or(0))),
            ("retain", format!("{} days", upkeep.retain_days.unwrap_or(0))),
        ];
        let mut values: Vec<(String, String)> = named.map(|(name, value)| (name.to_owned(), value)).into();
        for (name, refresh) in ["minute", "hour", "day"].into_iter().zip(upkeep.refresh) {
            // An aggregate of an aggregate has under it what no retention drops.
            let of_points = name == "minute" || file.of == Part::AggregatesOfPoints;
            let reach = refresh.reach_minutes(upkeep.retain_days.filter(|_| of_points));
            values.push((format!("{name}_window"), format!("{} days {} minutes", reach / 1_440, reach % 1_440)));
            values.push((format!("{name}_every"), format!("{} minutes", refresh.every_minutes)));
            values.push((format!("{name}_behind"), format!("{} minutes", refresh.behind_minutes)));
        }
        let lines: Vec<&str> = file.sql.lines().filter(|line| !line.starts_with('\\')).collect();
        let mut sql = lines.join("\n");
        for (name, value) in &values {
            sql =
                sql.replace(&format!(":\"{name}\""), &quoted(value)).replace(&format!(":'{name}'"), &literal(value));
        }
        sql
    }
}

pub(in super::super) fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// As a string of SQL, which is the same whatever `standard_conforming_strings` says: with a backslash in it, one whose escapes are its own. With the space before it
/// the `E` is never taken for the end of a word.
pub(in super::super) fn literal(text: &str) -> String {
    let quoted = text.replace('\'', "''");
    if quoted.contains('\\') { format!(" E'{}'", quoted.replace('\\', "\\\\")) } else { format!("'{quoted}'") }
}

#[cfg(test)]
mod tests {
    use tidegate_config::Secret;

    use super::super::steps::FILES;
    use super::*;

    /// Guarantees: what has to be granted is what the settings make it use.
    #[test]
    fn grants_follow_the_settings() {
        let mut settings = TimescaleSink::new(Secret::new(""));
        let text = Tables::new(&settings).grants;
        assert!(!text.contains("TEMPORARY") && !text.contains("source_positions"), "{text}");
        (settings.repeats, settings.offsets) = (Repeats::Dropped, Offsets::WithPoints);
        let text = Tables::new(&settings).grants;
        assert!(text.contains("SELECT on \"metrics\" and TEMPORARY on the database"), "{text}");
        assert!(text.contains("SELECT, INSERT, UPDATE on \"source_positions\""), "{text}");
    }

    /// Guarantees: what is refreshed from the points looks at nothing that retention has dropped, however little it keeps; what is refreshed from other aggregates
    /// as far back as is said.
    #[test]
    fn refreshes_end_where_points_do() {
        let mut settings = TimescaleSink::new(Secret::new(""));
        let windows = |retain_days, settings: &mut TimescaleSink| {
            settings.upkeep.retain_days = retain_days;
            ["009_aggregate_minute.sql", "010_aggregates_longer.sql", "012_aggregates_of_points.sql"].map(|name| {
                let file = FILES.iter().find(|file| file.name == name);
                let sql =
                    file.map(|file| Tables::new(settings).fill_in(file, "public", settings)).unwrap_or_default();
                let all = sql.split("start_offset => INTERVAL '").skip(1);
                all.map(|rest| rest.split('\'').next().unwrap_or_default().replace(" 0 minutes", ""))
                    .collect::<Vec<_>>()
            })
        };
        assert_eq!(windows(Some(1), &mut settings)[..2], [vec!["0 days 1380 minutes"], vec!["14 days", "60 days"]]);
        let month = [vec!["3 days"], vec!["14 days", "60 days"], vec!["14 days", "29 days 1380 minutes"]];
        assert_eq!(windows(Some(30), &mut settings), month);
        let ever = [vec!["3 days"], vec!["14 days", "60 days"], vec!["14 days", "60 days"]];
        assert_eq!(windows(None, &mut settings), ever);
    }

    /// Guarantees: names are quoted whatever they are, all tables share a schema, and no psql syntax is left in what is sent.
    #[test]
    fn names_are_put_in() {
        let mut settings = TimescaleSink::new(Secret::new(""));
        assert_eq!(Tables::new(&settings).series, "\"series\"");
        settings.names.table = "plant.Me\"trics".to_owned();
        settings.names.columns.time = "ts".to_owned();
        let tables = Tables::new(&settings);
        assert_eq!(tables.metrics, "\"plant\".\"Me\"\"trics\"");
        assert_eq!(tables.alerts, "\"plant\".\"alerts\"");
        assert!(tables.move_over.ends_with("ON CONFLICT (\"topic\", \"ts\") DO NOTHING"), "{}", tables.move_over);
        for file in FILES {
            let sql = tables.fill_in(&file, "plant", &settings);
            let code: String = sql.lines().filter(|line| !line.starts_with("--")).collect();
            assert!(!code.contains('\\') && !code.contains(":\"") && !code.contains(":'"), "{sql}");
        }
    }
}
