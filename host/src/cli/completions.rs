//! `tidegate completions` and `tidegate manual`: what shells and `man` want to know of the commands, made from the commands.

use std::io::{self, Write};
use std::process::ExitCode;

use clap::Command;
use clap_complete::Shell;

use crate::cli::print::print_bytes;

/// Print completions for a shell.
///
/// Example: tidegate completions bash > /etc/bash_completion.d/tidegate
#[derive(Debug, clap::Args)]
pub struct CompletionsArgs {
    shell: Shell,
}

/// Print the manual page, with a section for each command.
///
/// Example: tidegate manual | man -l -
#[derive(Debug, clap::Args)]
pub struct ManualArgs {}

/// Prints completions.
pub fn completions(args: &CompletionsArgs, mut commands: Command) -> anyhow::Result<ExitCode> {
    let mut text = Vec::new();
    clap_complete::generate(args.shell, &mut commands, "tidegate", &mut text);
    print_bytes(&text)?;
    Ok(ExitCode::SUCCESS)
}

/// Prints one page: the program, then each command with its options.
pub fn manual(commands: Command) -> anyhow::Result<ExitCode> {
    print_bytes(&page(commands)?)?;
    Ok(ExitCode::SUCCESS)
}

fn page(mut commands: Command) -> io::Result<Vec<u8>> {
    commands.build();
    let mut text = Vec::new();
    clap_mangen::Man::new(commands.clone()).render(&mut text)?;
    sections(&commands, "tidegate", &mut text)?;
    Ok(text)
}

/// A section for each command below this one, and for those below them.
fn sections(above: &Command, path: &str, text: &mut Vec<u8>) -> io::Result<()> {
    for command in below(above) {
        let path = format!("{path} {}", command.get_name());
        let mut page = Vec::new();
        let man = clap_mangen::Man::new(command.clone());
        writeln!(text, ".SH {path}")?;
        man.render_synopsis_section(&mut page)?;
        man.render_description_section(&mut page)?;
        man.render_options_section(&mut page)?;
        // Sections of a command are below that of the command.
        text.extend(String::from_utf8_lossy(&page).replace(".SH", ".SS").into_bytes());
        sections(command, &path, text)?;
    }
    Ok(())
}

/// The commands that are for people.
fn below(command: &Command) -> impl Iterator<Item = &Command> {
    command.get_subcommands().filter(|command| !command.is_hide_set() && command.get_name() != "help")
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use clap::CommandFactory;

    use super::*;

    fn all(above: &Command, path: &str) -> Vec<String> {
        let each = |command: &Command| {
            let path = format!("{path} {}", command.get_name());
            [vec![path.clone()], all(command, &path)].concat()
        };
        below(above).flat_map(each).collect()
    }

    /// Guarantees: every command that is for people, however deep, has its section in the manual and its place in the completions of every shell;
    /// those of the host's own children have none in the manual.
    #[test]
    fn every_command_is_there() {
        let commands = crate::Tidegate::command();
        let manual = String::from_utf8(page(commands.clone()).unwrap()).unwrap();
        let paths = all(&commands, "tidegate");
        for path in ["tidegate rules reset-state", "tidegate rules shadow promote", "tidegate dead-letters replay"] {
            assert!(paths.iter().any(|it| it == path), "{paths:?}");
        }
        for path in &paths {
            assert!(manual.contains(&format!("\n.SH {path}\n")), "{path} is not in the manual");
        }
        assert!(!manual.contains("tidegate validate") && !manual.contains("tidegate compile"));
        for shell in [Shell::Bash, Shell::Zsh, Shell::Fish] {
            let mut text = Vec::new();
            clap_complete::generate(shell, &mut commands.clone(), "tidegate", &mut text);
            let text = String::from_utf8(text).unwrap();
            for path in &paths {
                let name = path.rsplit(' ').next().unwrap();
                assert!(text.contains(name), "{path} is not among the completions of {shell}");
            }
        }
    }
}
