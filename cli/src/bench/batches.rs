//! Mean batch sizes, from the histograms of `/metrics` whose name says `batch`.

use std::collections::BTreeMap;

use crate::client;

/// Sum and count of each histogram, over all addresses that were read.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Batches(BTreeMap<String, (f64, f64)>);

impl Batches {
    /// Reads all addresses.
    pub async fn read(urls: &[String]) -> anyhow::Result<Self> {
        let mut batches = Self::default();
        let http = client::http()?;
        for url in urls {
            let text = http.get(url).send().await?.error_for_status()?.text().await?;
            batches.add(&text);
        }
        Ok(batches)
    }

    fn add(&mut self, text: &str) {
        for line in text.lines().filter(|line| !line.starts_with('#')) {
            let Some((series, value)) = line.rsplit_once(' ') else { continue };
            let Ok(value) = value.parse::<f64>() else { continue };
            let (name, labels) = series.split_once('{').unwrap_or((series, ""));
            let labels = labels.trim_end_matches('}');
            if !name.contains("batch") {
                continue;
            }
            let (histogram, is_sum) = match (name.strip_suffix("_sum"), name.strip_suffix("_count")) {
                (Some(histogram), _) => (histogram, true),
                (_, Some(histogram)) => (histogram, false),
                _ => continue,
            };
            let entry = self.0.entry(format!("{histogram}{{{labels}}}")).or_default();
            if is_sum { entry.0 += value } else { entry.1 += value }
        }
    }

    /// What came since an earlier reading.
    pub fn since(&self, earlier: &Batches) -> Batches {
        let change = |(name, (sum, count)): (&String, &(f64, f64))| {
            let (sum_before, count_before) = earlier.0.get(name).copied().unwrap_or_default();
            (name.clone(), (sum - sum_before, count - count_before))
        };
        Batches(self.0.iter().map(change).collect())
    }

    /// Name, mean size and number of batches, of those that there were any of.
    pub fn means(&self) -> Vec<(String, f64, u64)> {
        let any = self.0.iter().filter(|(_, (_, count))| *count > 0.0);
        any.map(|(name, (sum, count))| (name.clone(), sum / count, *count as u64)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn means_are_of_what_came_between() {
        let text = |sum: u32, count: u32| {
            format!(
                "# HELP holdpoint_db_batch_size x\nholdpoint_db_batch_size_bucket{{kind=\"commit\",le=\"1\"}} 1\n\
                 holdpoint_db_batch_size_sum{{kind=\"commit\"}} {sum}\nholdpoint_db_batch_size_count{{kind=\"commit\"}} {count}\nother_sum 5\n"
            )
        };
        let (mut before, mut after) = (Batches::default(), Batches::default());
        before.add(&text(10, 10));
        after.add(&text(110, 20));
        let means = after.since(&before).means();
        assert_eq!(means, [("holdpoint_db_batch_size{kind=\"commit\"}".to_owned(), 10.0, 10)]);
        assert!(after.since(&after).means().is_empty());
    }
}
