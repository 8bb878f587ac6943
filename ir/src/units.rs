//! Sizes and durations as users write them.

use std::time::Duration;

/// Units of sizes, and the powers of two that they stand for.
pub const UNITS: [(&str, u32); 4] = [("K", 10), ("M", 20), ("G", 30), ("T", 40)];

/// Reads a size in bytes, as `4G`; letters in either case, `B` or `iB` at the end or not.
pub fn size(text: &str) -> Option<u64> {
    let upper = text.trim().to_ascii_uppercase();
    let digits = upper.trim_end_matches("IB").trim_end_matches('B').trim_end();
    let (number, shift) = UNITS
        .iter()
        .find_map(|(unit, shift)| Some((digits.strip_suffix(unit)?, *shift)))
        .unwrap_or((digits, 0));
    let number: f64 = number.trim_end().parse().ok()?;
    let bytes = number * f64::from(shift).exp2();
    // Beyond 2^63 the conversion would saturate silently.
    (bytes.is_finite() && (0.0..9.2e18).contains(&bytes)).then_some(bytes as u64)
}

/// Reads a duration: a whole number, not 0, and `s`, `m` or `h`.
pub fn duration(text: &str) -> Option<Duration> {
    let text = text.trim();
    let (number, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    let seconds = match unit {
        "s" => 1,
        "m" => 60,
        "h" => 3600,
        _ => return None,
    };
    number.trim_end().parse::<u64>().ok()?.checked_mul(seconds).filter(|s| *s > 0).map(Duration::from_secs)
}
