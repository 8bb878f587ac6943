//! Prints what `ggr bench scale` measures: `cargo run --release -p ggr-backends --example scale -- 1000000`.

#[tokio::main]
async fn main() {
    let thunks = std::env::args().nth(1).and_then(|n| n.parse().ok()).unwrap_or(1_000_000);
    println!("{}", ggr_backends::bench::scale(thunks).await);
}
