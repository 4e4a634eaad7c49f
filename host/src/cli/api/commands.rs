//! What a host says to whoever asks its API, for people who ask by command: where it names a route, the command that asks for it.

/// Routes that hosts name, below `/api/v1`; a `*` stands for a part of the path, which comes last in the command.
const COMMANDS: [(&str, &str); 6] = [
    ("GET /rules", "tidegate rules list"),
    ("GET /modules", "tidegate modules list"),
    ("POST /modules", "tidegate modules upload"),
    ("GET /series", "tidegate series"),
    ("POST /rules/*/shadow", "tidegate shadow start *"),
    ("GET /backtests/*", "tidegate backtest --show *"),
];

/// The same words with commands. A route that no command asks for stays as it is.
pub fn in_commands(text: &str) -> String {
    let mut words: Vec<String> = text.split(' ').map(str::to_owned).collect();
    let mut at = 1;
    while at < words.len() {
        let ends = words[at].trim_end_matches([',', ';', '.', ':', ')']).len();
        let (path, end) = words[at].split_at(ends);
        let command = path.strip_prefix("/api/v1").and_then(|path| command(&words[at - 1], path));
        if let Some(command) = command {
            words[at - 1] = format!("`{command}`{end}");
            words.remove(at);
        } else {
            at += 1;
        }
    }
    words.join(" ")
}

fn command(method: &str, path: &str) -> Option<String> {
    COMMANDS.iter().find_map(|(route, command)| {
        let (of, route) = route.split_once(' ')?;
        let (parts, known): (Vec<&str>, Vec<&str>) = (path.split('/').collect(), route.split('/').collect());
        let fits = |(part, known): (&&str, &&str)| part == known || *known == "*" && !part.is_empty();
        let is_it = of == method && parts.len() == known.len() && parts.iter().zip(&known).all(fits);
        let part = parts.iter().zip(&known).find(|(_, known)| **known == "*").map_or("", |(part, _)| part);
        is_it.then(|| command.replace('*', part))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Guarantees: routes are told as commands with what they name, whatever stands behind them; and nothing else is changed.
    #[test]
    fn commands() {
        for (said, told) in [
            (
                "there is no rule \"x\"; GET /api/v1/rules lists them",
                "there is no rule \"x\"; `tidegate rules list` lists them",
            ),
            ("upload it first: POST /api/v1/modules", "upload it first: `tidegate modules upload`"),
            ("POST /api/v1/rules/hot/shadow starts one", "`tidegate shadow start hot` starts one"),
            ("it failed: GET /api/v1/backtests/7, to who may", "it failed: `tidegate backtest --show 7`, to who may"),
            ("GET /api/v1 shows what there is", "GET /api/v1 shows what there is"),
            ("GET /api/v1/rules/hot/state  and /api/v1/rules", "GET /api/v1/rules/hot/state  and /api/v1/rules"),
            ("", ""),
        ] {
            assert_eq!(in_commands(said), told);
        }
    }
}
