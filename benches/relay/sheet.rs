//! All figures, as they are printed and kept.

use fieldseal::bench::spread::Spread;
use serde::Serialize;

use crate::marks::Mark;
use crate::measure::Turns;

/// All that was found.
#[derive(Debug, Default, Serialize)]
pub(crate) struct Sheet {
    pub(crate) lines: Vec<Line>,
    pub(crate) marks: Vec<Mark>,
}

/// One way in one row.
#[derive(Debug, Serialize)]
pub(crate) struct Line {
    row: String,
    way: String,
    /// Microseconds of CPU time of the relay, for each operation; zero where there is none.
    cpu: Spread,
    /// Of mongod.
    cpu_mongod: f64,
    /// In a second.
    throughput: Spread,
    /// Microseconds.
    p50: Spread,
    p99: Spread,
}

impl Sheet {
    /// Keeps and prints the figures of one row.
    pub(crate) fn add(&mut self, row: &str, found: &[Turns]) {
        println!(
            "\n{row:<34} {:>24} {:>8} {:>9} {:>8} {:>8}",
            "CPU, µs [10 to 90 %]", "mongod", "in 1 s", "p50, µs", "p99, µs"
        );
        for way in found {
            let line = Line {
                row: row.to_owned(),
                way: way.name.clone(),
                cpu: way.of(|turn| turn.cpu),
                cpu_mongod: way.mongod(),
                throughput: way.of(|turn| turn.throughput),
                p50: way.of(|turn| turn.p50),
                p99: way.of(|turn| turn.p99),
            };
            let cpu = line.cpu;
            let spent = match way.relayed {
                true => format!("{:.1} [{:.1} to {:.1}]", cpu.median, cpu.low, cpu.high),
                false => "-".to_owned(),
            };
            println!(
                "  {:<32} {:>24} {:>8.1} {:>9.0} {:>8.0} {:>8.0}",
                line.way,
                spent,
                line.cpu_mongod,
                line.throughput.median,
                line.p50.median,
                line.p99.median,
            );
            self.lines.push(line);
        }
    }

    /// The table of the marks: what is to be reached, and what was.
    pub(crate) fn print_marks(&self) {
        if self.marks.is_empty() {
            return;
        }
        println!("\n| what | mark | found (95 % certain; 10 to 90 % of the rounds) | |");
        println!("| --- | --- | --- | --- |");
        for mark in &self.marks {
            println!("{mark}");
        }
        let met = self.marks.iter().filter(|mark| mark.passes()).count();
        println!("\n{met} of {} marks are met", self.marks.len());
    }
}
