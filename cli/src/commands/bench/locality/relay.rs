//! A relay that holds bytes back for a while, in both directions: what netem's delay does, for kernels that have none.

use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use futures_util::future::join;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;

/// Bytes in one piece, and pieces on the way: 512 KiB, four times what 100 Mbit/s carry in 10 ms.
const PIECE: usize = 16 << 10;
const ON_THE_WAY: usize = 32;

/// Takes connections at each first address for ever, and leads them to the second.
pub(super) async fn relay(ways: Vec<(SocketAddr, SocketAddr)>, delay: Duration) -> io::Result<()> {
    for (from, to) in ways {
        let listener = TcpListener::bind(from).await?;
        tokio::spawn(async move {
            while let Ok((near, _)) = listener.accept().await {
                tokio::spawn(async move {
                    if let Ok(far) = TcpStream::connect(to).await {
                        let _ = (near.set_nodelay(true), far.set_nodelay(true));
                        let (near_in, near_out) = near.into_split();
                        let (far_in, far_out) = far.into_split();
                        join(pump(near_in, far_out, delay), pump(far_in, near_out, delay)).await;
                    }
                });
            }
        });
    }
    Ok(())
}

async fn pump(
    mut from: tokio::net::tcp::OwnedReadHalf,
    mut to: tokio::net::tcp::OwnedWriteHalf,
    delay: Duration,
) {
    let (put, mut take) = mpsc::channel::<(Instant, Vec<u8>)>(ON_THE_WAY);
    let reading = async move {
        loop {
            let mut piece = vec![0; PIECE];
            match from.read(&mut piece).await {
                Ok(length) if length > 0 => piece.truncate(length),
                _ => return,
            }
            if put.send((Instant::now() + delay, piece)).await.is_err() {
                return;
            }
        }
    };
    let writing = async move {
        let mut due = VecDeque::new();
        while let Some(piece) = take.recv().await {
            due.push_back(piece);
            while let Some((at, bytes)) = due.pop_front() {
                tokio::time::sleep_until(at.into()).await;
                if to.write_all(&bytes).await.is_err() {
                    return;
                }
            }
        }
        let _ = to.shutdown().await;
    };
    join(reading, writing).await;
}
