//! The policies: one fixed window for all, and the hybrid histogram.

use std::collections::{HashMap, VecDeque};
use std::hash::Hash;
use std::time::Duration;

use super::{Histogram, Window, Windows};

/// One window for every key: what most services do.
#[derive(Clone, Copy, Debug)]
pub struct Fixed(pub Duration);

impl<K> Windows<K> for Fixed {
    fn observe(&mut self, _key: &K, _idle: Duration) {}

    fn window(&self, _key: &K) -> Window {
        Window { load_after: Duration::ZERO, keep_until: self.0 }
    }
}

/// The hybrid policy's constants.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Bin widths, ascending; the narrowest whose histogram represents the key's idle times is used. A compiler is idle for
    /// milliseconds inside a build, for minutes between builds, for hours between sessions.
    pub widths: Vec<Duration>,
    /// Idle times before a histogram is believed.
    pub enough: u64,
    /// The coefficient of variation of the counts from which a histogram is representative.
    pub variation: f64,
    /// The share of idle times beyond the range up to which a histogram may decide.
    pub beyond: f64,
    /// The percentile that the next use is assumed not to come before.
    pub head: u64,
    /// The percentile that it is assumed not to come after.
    pub tail: u64,
    /// How much earlier than the head, and later than the tail: 0.1 is a tenth.
    pub margin: f64,
    /// The same around a forecast.
    pub forecast_margin: f64,
    /// The fixed window where nothing is known.
    pub fallback: Duration,
}

impl Default for Settings {
    /// The paper's, where it has one: CV 2, 5th and 99th percentile, 10 %, 15 %. Its fallback is the histogram's whole range of
    /// four hours; here it is ten minutes, as idle sandboxes share a developer's machine.
    fn default() -> Self {
        Self {
            widths: [Duration::from_millis(250), Duration::from_secs(5), Duration::from_secs(60)].into(),
            enough: 10,
            variation: 2.0,
            beyond: 0.01,
            head: 5,
            tail: 99,
            margin: 0.10,
            forecast_margin: 0.15,
            fallback: Duration::from_secs(600),
        }
    }
}

/// How a key's window was found.
#[derive(Clone, Copy, PartialEq, Debug)]
pub enum Mode {
    /// Too little is known, or what is known is spread evenly.
    Fallback,
    /// From the histogram with bins of this width.
    Histogram(Duration),
    /// Most idle times are beyond the widest histogram: from the series itself, the next idle time.
    Forecast(Duration),
}

/// The hybrid histogram policy.
#[derive(Clone, Debug)]
pub struct Hybrid<K> {
    settings: Settings,
    keys: HashMap<K, Known>,
}

#[derive(Clone, Debug)]
struct Known {
    histograms: Vec<Histogram>,
    /// The last idle times in seconds, oldest first.
    recent: VecDeque<f64>,
}

/// How much of the series a forecast looks at. Keys with such long idle times have few.
const RECENT: usize = 16;

impl<K: Eq + Hash + Clone> Hybrid<K> {
    /// A policy that knows nothing yet.
    pub fn new(settings: Settings) -> Self {
        Self { settings, keys: HashMap::new() }
    }

    /// How this key's window is found at present, for those who ask why.
    pub fn mode(&self, key: &K) -> Mode {
        self.keys.get(key).map_or(Mode::Fallback, |known| known.mode(&self.settings).0)
    }
}

impl Known {
    fn mode(&self, settings: &Settings) -> (Mode, Option<&Histogram>) {
        let representative = |histogram: &&Histogram| {
            histogram.seen() >= settings.enough
                && histogram.beyond() <= settings.beyond
                && histogram.variation() >= settings.variation
        };
        if let Some(histogram) = self.histograms.iter().find(representative) {
            return (Mode::Histogram(histogram.width()), Some(histogram));
        }
        let widest = self.histograms.last();
        if widest.is_some_and(|widest| widest.beyond() > 0.5)
            && let Some(next) = forecast(&self.recent)
        {
            return (Mode::Forecast(next), None);
        }
        (Mode::Fallback, None)
    }
}

impl<K: Eq + Hash + Clone> Windows<K> for Hybrid<K> {
    fn observe(&mut self, key: &K, idle: Duration) {
        if !self.keys.contains_key(key) {
            let histograms = self.settings.widths.iter().copied().map(Histogram::new).collect();
            self.keys.insert(key.clone(), Known { histograms, recent: VecDeque::new() });
        }
        let Some(known) = self.keys.get_mut(key) else { return };
        known.histograms.iter_mut().for_each(|histogram| histogram.add(idle));
        if known.recent.len() == RECENT {
            known.recent.pop_front();
        }
        known.recent.push_back(idle.as_secs_f64());
    }

    fn window(&self, key: &K) -> Window {
        let settings = &self.settings;
        let fallback = Window { load_after: Duration::ZERO, keep_until: settings.fallback };
        let Some(known) = self.keys.get(key) else { return fallback };
        match known.mode(settings) {
            (Mode::Forecast(next), _) => Window {
                load_after: next.mul_f64(1.0 - settings.forecast_margin),
                keep_until: next.mul_f64(1.0 + settings.forecast_margin),
            },
            (_, Some(histogram)) => {
                match (histogram.percentile(settings.head), histogram.percentile(settings.tail)) {
                    (Some((head, _)), Some((_, tail))) => Window {
                        load_after: head.mul_f64(1.0 - settings.margin),
                        keep_until: tail.mul_f64(1.0 + settings.margin),
                    },
                    _ => fallback,
                }
            }
            (_, None) => fallback,
        }
    }
}

/// The next value of a series by a first-order autoregression, fitted by least squares; its mean while it is too short for one.
/// Nothing for less than two values. (The paper fits ARIMA, in the background, for it takes 27 ms; this is O(16).)
fn forecast(series: &VecDeque<f64>) -> Option<Duration> {
    let (&last, count) = (series.back()?, series.len());
    if count < 2 {
        return None;
    }
    let mean = series.iter().sum::<f64>() / count as f64;
    let spread: f64 = series.iter().take(count - 1).map(|value| (value - mean).powi(2)).sum();
    let together: f64 =
        series.iter().zip(series.iter().skip(1)).map(|(one, next)| (one - mean) * (next - mean)).sum();
    let slope =
        if count < 4 || spread <= f64::EPSILON { 0.0 } else { (together / spread).clamp(-0.95, 0.95) };
    // No idle time is negative, and none that was never seen is promised.
    let longest = series.iter().copied().fold(0.0, f64::max);
    Duration::try_from_secs_f64((mean + slope * (last - mean)).clamp(0.0, longest)).ok()
}
