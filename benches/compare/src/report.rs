//! Medians and ratios, as a table.

use std::collections::BTreeMap;

/// Figures of several rounds: the higher the better.
#[derive(Debug, Default)]
pub struct Report {
    /// By work, then by subject, in the order of first mention.
    works: Vec<(String, BTreeMap<String, Vec<f64>>)>,
    subjects: Vec<String>,
}

impl Report {
    /// Takes one figure.
    pub fn add(&mut self, work: &str, subject: &str, figure: f64) {
        if !self.subjects.iter().any(|known| known == subject) {
            self.subjects.push(subject.to_owned());
        }
        let index = self
            .works
            .iter()
            .position(|(known, _)| known == work)
            .unwrap_or_else(|| {
                self.works.push((work.to_owned(), BTreeMap::new()));
                self.works.len() - 1
            });
        if let Some((_, figures)) = self.works.get_mut(index) {
            figures.entry(subject.to_owned()).or_default().push(figure);
        }
    }

    /// The table: medians, and how `ours` compares with each of the others.
    pub fn print(&self, ours: &str) {
        print!("{:<44}", "work");
        for subject in &self.subjects {
            print!("{subject:>18}");
        }
        for other in self.subjects.iter().filter(|subject| *subject != ours) {
            print!("{:>32}", format!("{ours} / {other}"));
        }
        println!();
        for (work, figures) in &self.works {
            print!("{work:<44}");
            let median = |subject: &str| figures.get(subject).and_then(|figures| median(figures));
            for subject in &self.subjects {
                let shown = median(subject).map_or("-".to_owned(), |figure| format!("{figure:.0}"));
                print!("{shown:>18}");
            }
            for other in self.subjects.iter().filter(|subject| *subject != ours) {
                let ratio = median(ours).zip(median(other)).map(|(ours, other)| ours / other);
                print!(
                    "{:>22}",
                    ratio.map_or("-".to_owned(), |ratio| format!("{ratio:.2}"))
                );
            }
            println!();
        }
    }
}

fn median(figures: &[f64]) -> Option<f64> {
    let mut sorted = figures.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted.get(sorted.len() / 2).copied()
}

#[cfg(test)]
mod tests {
    use super::median;

    #[test]
    fn the_median_is_the_middle_one() {
        assert_eq!(median(&[3.0, 1.0, 2.0]), Some(2.0));
        assert_eq!(median(&[]), None);
    }
}
