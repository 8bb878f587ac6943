//! Prints what `ggr bench scale` measures: `cargo run --release -p ggr-backends --example scale -- 1000000 [held]`.

use ggr_backends::bench;

#[tokio::main]
async fn main() {
    let thunks = std::env::args().nth(1).and_then(|n| n.parse().ok()).unwrap_or(1_000_000);
    let report = match std::env::args().nth(2).as_deref() {
        Some("held") => bench::scale_held(thunks).await,
        _ => bench::scale(thunks).await,
    };
    println!("{report}");
}
