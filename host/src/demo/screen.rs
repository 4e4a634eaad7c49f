//! The live view: rates, ledger, rules, alerts as they happen.

use std::time::Duration;

use ratatui::crossterm::event::{self, Event, KeyCode, KeyEventKind, KeyModifiers};
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::style::{Color, Modifier, Style};
use ratatui::text::{Line, Span};
use ratatui::widgets::{Block, Cell, Paragraph, Row, Table};
use ratatui::{DefaultTerminal, Frame};
use tidegate_admin::Status;

use crate::demo::plant::SeenAlert;

/// One look at the demo.
pub struct Picture<'a> {
    /// The host's state.
    pub status: &'a Status,
    /// Messages received a second, lately.
    pub msgs_per_s: f64,
    /// Points stored a second, lately.
    pub points_per_s: f64,
    /// The latest alerts, newest first.
    pub alerts: &'a [SeenAlert],
    /// Raised and cleared so far.
    pub counts: (u64, u64),
    /// Where everything is: said at the bottom.
    pub places: &'a [String],
}

/// The terminal while the demo has it; given back when dropped.
pub struct Screen(DefaultTerminal);

impl Screen {
    /// Takes the terminal over.
    pub fn open() -> std::io::Result<Self> {
        ratatui::try_init().map(Self)
    }

    /// Shows `picture`, then waits up to `pause` for a key; gives whether it asks to end.
    pub fn show(&mut self, picture: &Picture<'_>, pause: Duration) -> std::io::Result<bool> {
        self.0.draw(|frame| draw(frame, picture))?;
        if !event::poll(pause)? {
            return Ok(false);
        }
        let Event::Key(key) = event::read()? else { return Ok(false) };
        let control_c = key.code == KeyCode::Char('c') && key.modifiers.contains(KeyModifiers::CONTROL);
        Ok(key.kind == KeyEventKind::Press && (control_c || matches!(key.code, KeyCode::Char('q') | KeyCode::Esc)))
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        ratatui::restore();
    }
}

fn draw(frame: &mut Frame<'_>, picture: &Picture<'_>) {
    let rules = picture.status.rules.len() as u16 + 3;
    let places = picture.places.len() as u16 + 1;
    let [top, middle, alerts, bottom] = Layout::vertical([
        Constraint::Length(7),
        Constraint::Length(rules),
        Constraint::Min(4),
        Constraint::Length(places),
    ])
    .areas(frame.area());
    let [flow, ledger] = Layout::horizontal([Constraint::Percentage(50); 2]).areas(top);
    draw_flow(frame, flow, picture);
    draw_ledger(frame, ledger, picture);
    draw_rules(frame, middle, picture);
    draw_alerts(frame, alerts, picture);
    let mut lines: Vec<Line<'_>> = picture.places.iter().map(|place| dim(place)).collect();
    lines.push(dim("q or Ctrl-C: drain and end"));
    frame.render_widget(Paragraph::new(lines), bottom);
}

fn draw_flow(frame: &mut Frame<'_>, area: Rect, picture: &Picture<'_>) {
    let pipeline = &picture.status.pipeline;
    let ms = |value: Option<f64>| value.map_or("–".to_owned(), |ms| format!("{ms:.1} ms"));
    let lines = vec![
        line("messages", &format!("{:>10.0} a second", picture.msgs_per_s)),
        line("points", &format!("{:>10.0} a second", picture.points_per_s)),
        line("settled", &format!("{:>10} (half of them)", ms(pipeline.p50_ms))),
        line("", &format!("{:>10} (99 of 100)", ms(pipeline.p99_ms))),
        line("series", &format!("{:>10} of at most {}", pipeline.series, pipeline.max_series)),
    ];
    frame.render_widget(Paragraph::new(lines).block(titled("tidegate demo")), area);
}

fn draw_ledger(frame: &mut Frame<'_>, area: Rect, picture: &Picture<'_>) {
    let (m, points) = (&picture.status.messages, &picture.status.pipeline.points);
    let lines = vec![
        line("received", &format!("{:>10} messages", m.received)),
        line("= decoded", &format!("{:>10}  → {} points stored", m.decoded, points.stored)),
        line("+ filtered", &format!("{:>10}", m.filtered)),
        line("+ dead letters", &format!("{:>10}", m.dead_lettered)),
        line("+ in flight", &format!("{:>10}", m.in_flight)),
    ];
    frame.render_widget(Paragraph::new(lines).block(titled("ledger")), area);
}

fn draw_rules(frame: &mut Frame<'_>, area: Rect, picture: &Picture<'_>) {
    let header = Row::new(["rule", "kind", "state", "rows", "ns/row", "alerts", "faults"])
        .style(Style::new().add_modifier(Modifier::DIM));
    let rows = picture.status.rules.iter().map(|rule| {
        let state = format!("{:?}", rule.state).to_lowercase();
        let color = if rule.problem.is_some() { Color::Red } else { Color::Green };
        let faults: u64 = rule.stats.faults.values().sum();
        Row::new([
            Cell::from(rule.name.clone()),
            Cell::from(rule.kind.unwrap_or("–")),
            Cell::from(Span::styled(state, Style::new().fg(color))),
            Cell::from(rule.stats.rows_in.to_string()),
            Cell::from(format!("{:.0}", rule.stats.ns_per_row)),
            Cell::from(rule.stats.alerts.to_string()),
            Cell::from(faults.to_string()),
        ])
    });
    let widths = [22, 10, 12, 10, 8, 8, 8].map(Constraint::Length);
    frame.render_widget(Table::new(rows, widths).header(header).block(titled("rules")), area);
}

fn draw_alerts(frame: &mut Frame<'_>, area: Rect, picture: &Picture<'_>) {
    let (raised, cleared) = picture.counts;
    let lines: Vec<Line<'_>> = picture
        .alerts
        .iter()
        .take(area.height.saturating_sub(2) as usize)
        .map(|alert| {
            let color = match alert.transition.as_str() {
                "raised" => Color::Red,
                "cleared" => Color::Green,
                _ => Color::Yellow,
            };
            let what = format!("{:<8}", alert.transition);
            Line::from(vec![
                Span::styled(what, Style::new().fg(color)),
                Span::raw(format!("{:<18}{:<46}{}", alert.rule, alert.topic, alert.message)),
            ])
        })
        .collect();
    let standing = picture.status.pipeline.alerts_standing;
    let title = format!("alerts: {raised} raised, {cleared} cleared, {standing} stand");
    frame.render_widget(Paragraph::new(lines).block(titled(title)), area);
}

fn titled<'a>(title: impl Into<Line<'a>>) -> Block<'a> {
    Block::bordered().title(title).border_style(Style::new().fg(Color::DarkGray))
}

fn line(name: &str, value: &str) -> Line<'static> {
    Line::from(format!("{name:<15}{value}"))
}

fn dim(text: &str) -> Line<'static> {
    Line::styled(text.to_owned(), Style::new().add_modifier(Modifier::DIM))
}
