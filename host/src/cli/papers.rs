//! `tidegate completions` and `tidegate manual`: what shells and `man` want to know of the commands, made from the commands.

use std::io::{self, Write};
use std::process::ExitCode;

use clap::Command;
use clap_complete::Shell;

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
    io::stdout().write_all(&text)?;
    Ok(ExitCode::SUCCESS)
}

/// Prints one page: the program, then each command with its options.
pub fn manual(mut commands: Command) -> anyhow::Result<ExitCode> {
    commands.build();
    let mut text = Vec::new();
    clap_mangen::Man::new(commands.clone()).render(&mut text)?;
    for command in commands.get_subcommands().filter(|command| !command.is_hide_set() && command.get_name() != "help")
    {
        let mut page = Vec::new();
        let man = clap_mangen::Man::new(command.clone());
        writeln!(text, ".SH tidegate {}", command.get_name())?;
        man.render_synopsis_section(&mut page)?;
        man.render_description_section(&mut page)?;
        man.render_options_section(&mut page)?;
        // Sections of a command are below that of the command.
        text.extend(String::from_utf8_lossy(&page).replace(".SH", ".SS").into_bytes());
    }
    io::stdout().write_all(&text)?;
    Ok(ExitCode::SUCCESS)
}
