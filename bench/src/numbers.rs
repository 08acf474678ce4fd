//! The measured samples and their statistics.

use std::collections::BTreeMap;

use crate::runtime::{Runtime, Sample};

/// The part of a sample that a row of the table shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Unit {
    Cpu,
    OwnCpu,
    Wall,
    Rss,
    Faults,
    Count,
    /// In KiB.
    Size,
}

/// All samples, by row and runtime.
pub(crate) struct Results {
    /// Names of the rows, in order of appearance.
    pub(crate) rows: Vec<(String, Unit)>,
    values: BTreeMap<(String, Unit, String), Vec<f64>>,
    names: Vec<String>,
}

/// The minimum, the first quartile, the median, and half the interquartile range.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Summary {
    pub(crate) least: f64,
    pub(crate) quartile: f64,
    pub(crate) median: f64,
    pub(crate) spread: f64,
    pub(crate) count: usize,
}

impl Results {
    pub(crate) fn new(runtimes: &[Runtime]) -> Self {
        let names = runtimes.iter().map(|runtime| runtime.name.clone()).collect();
        Self { rows: Vec::new(), values: BTreeMap::new(), names }
    }

    pub(crate) fn add(&mut self, name: &str, runtime: &Runtime, sample: Sample) {
        // The end of a killed container is not the runtime's work.
        let cpu = match name {
            "kill" => (Unit::OwnCpu, sample.own_cpu),
            _ => (Unit::Cpu, sample.cpu),
        };
        if name.ends_with("CRIU alone") {
            return self.put(name, Unit::Wall, runtime, sample.wall);
        }
        self.put(name, cpu.0, runtime, cpu.1);
        match name {
            "run def" | "exec" | "state" => {
                self.put(name, Unit::Rss, runtime, sample.rss);
                self.put(name, Unit::Faults, runtime, sample.faults);
            }
            "delete -f, live" | "100 runs, 8 at a time" | "checkpoint" | "restore" => {
                self.put(name, Unit::Wall, runtime, sample.wall);
            }
            _ => {}
        }
    }

    pub(crate) fn put(&mut self, name: &str, unit: Unit, runtime: &Runtime, value: f64) {
        let row = (name.to_owned(), unit);
        if !self.rows.contains(&row) {
            self.rows.push(row);
        }
        let key = (name.to_owned(), unit, runtime.name.clone());
        self.values.entry(key).or_default().push(value);
    }

    pub(crate) fn summary(&self, row: &(String, Unit), runtime: &str) -> Option<Summary> {
        let key = (row.0.clone(), row.1, runtime.to_owned());
        summary(self.values.get(&key)?)
    }

    /// Median of the ratios of neighbours in time to the first other runtime.
    pub(crate) fn ratio(&self, row: &(String, Unit)) -> Option<f64> {
        let of = |name: &str| self.values.get(&(row.0.clone(), row.1, name.to_owned()));
        let (ours, theirs) = (of(self.names.first()?)?, of(self.names.get(1)?)?);
        let ratios: Vec<f64> = ours.iter().zip(theirs).map(|(our, their)| our / their).collect();
        summary(&ratios).map(|summary| summary.median)
    }
}

fn summary(values: &[f64]) -> Option<Summary> {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let at = |part: usize| sorted.get(sorted.len() * part / 4).copied();
    Some(Summary {
        least: *sorted.first()?,
        quartile: at(1)?,
        median: at(2)?,
        spread: (at(3)? - at(1)?) / 2.0,
        count: sorted.len(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_middle_is_the_middle() {
        let found = summary(&[5.0, 1.0, 3.0, 2.0, 4.0]).unwrap();
        assert_eq!(
            found,
            Summary { least: 1.0, quartile: 2.0, median: 3.0, spread: 1.0, count: 5 }
        );
        assert_eq!(summary(&[]), None);
    }
}
