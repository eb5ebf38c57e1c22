//! A layer that is read while it comes in, and resumed where its connection breaks off.

use std::io::{self, Read};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};

use bytes::{Buf as _, Bytes};
use reqwest::header::{CONTENT_RANGE, HeaderMap};
use reqwest::{Response, StatusCode};
use tokio::sync::Semaphore;
use tokio::task::AbortHandle;

use super::failure::{Failure, Part, Patience};
use super::repository::Repository;
use super::worker::{NOTICE, Worker, ended};
use crate::cancel::CancelToken;
use crate::error::{Error, ErrorKind};
use crate::summary::Digest;

/// Bytes that have come in and are not read yet, at most, for each layer that is open.
const WINDOW: usize = 4 << 20;
/// Bytes that a chunk counts for beside its own, so that small ones do not take more memory than
/// they count for.
const OVERHEAD: usize = 128;
/// A layer that has come so much further has all its attempts again.
const PROGRESS: u64 = 1 << 20;

/// What arrives at a reader.
enum News {
    Bytes(Bytes),
    /// All bytes were sent.
    End,
    Failed(Error),
}

/// The blocking end of a transfer.
pub(super) struct BlobReader {
    news: Receiver<News>,
    window: Arc<Semaphore>,
    chunk: Bytes,
    /// Permits to give back when the chunk is read.
    held: usize,
    has_ended: bool,
    task: AbortHandle,
    cancel: CancelToken,
    /// The thread works as long as somebody reads.
    _worker: Arc<Worker>,
}

impl BlobReader {
    /// Begins to fetch a blob.
    pub(super) fn start(
        worker: &Arc<Worker>,
        repository: Arc<Repository>,
        digest: Digest,
        size: Option<u64>,
    ) -> Self {
        let (sender, news) = channel();
        let window = Arc::new(Semaphore::new(WINDOW));
        let cancel = repository.options.cancel.clone();
        let mut transfer = Transfer {
            repository,
            part: Part::Blob(digest.to_string()),
            digest,
            size,
            done: 0,
            window: Arc::clone(&window),
            news: sender,
        };
        let task = worker.spawn(async move { transfer.run().await });
        Self {
            news,
            window,
            chunk: Bytes::new(),
            held: 0,
            has_ended: false,
            task,
            cancel,
            _worker: Arc::clone(worker),
        }
    }

    /// Waits for the next chunk, or for the end.
    fn wait(&mut self) -> io::Result<()> {
        self.window.add_permits(self.held);
        self.held = 0;
        loop {
            if self.cancel.is_cancelled() {
                self.task.abort();
                return Err(io::Error::other(Error::cancelled()));
            }
            match self.news.recv_timeout(NOTICE) {
                Ok(News::Bytes(bytes)) => {
                    self.held = cost(&bytes);
                    self.chunk = bytes;
                }
                Ok(News::End) => self.has_ended = true,
                Ok(News::Failed(error)) => return Err(io::Error::other(error)),
                Err(RecvTimeoutError::Timeout) => continue,
                Err(RecvTimeoutError::Disconnected) => return Err(io::Error::other(ended())),
            }
            return Ok(());
        }
    }
}

impl Read for BlobReader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.chunk.is_empty() && !self.has_ended && !buffer.is_empty() {
            self.wait()?;
        }
        let len = self.chunk.len().min(buffer.len());
        self.chunk.copy_to_slice(&mut buffer[..len]);
        Ok(len)
    }
}

impl Drop for BlobReader {
    fn drop(&mut self) {
        self.task.abort();
    }
}

fn cost(chunk: &Bytes) -> usize {
    chunk.len() + OVERHEAD
}

/// The end of a transfer that fetches.
struct Transfer {
    repository: Arc<Repository>,
    part: Part,
    digest: Digest,
    /// Bytes of the blob, as its descriptor has them.
    size: Option<u64>,
    /// Bytes that were handed over.
    done: u64,
    window: Arc<Semaphore>,
    news: Sender<News>,
}

impl Transfer {
    async fn run(&mut self) {
        let mut patience = Patience::new(&self.repository.options);
        let mut renewed_at = 0;
        let news = loop {
            let failure = match self.attempt().await {
                Ok(()) => break News::End,
                // The connection broke behind the last byte.
                Err(Failure::Passing { .. }) if self.size == Some(self.done) && self.done > 0 => {
                    break News::End;
                }
                Err(failure) => failure,
            };
            if self.done - renewed_at >= PROGRESS {
                renewed_at = self.done;
                patience.renew();
            }
            if let Err(error) = patience.wait(failure).await {
                break News::Failed(error);
            }
        };
        // A reader that is gone asks for nothing.
        let _ = self.news.send(news);
    }

    /// Fetches what is missing, as far as one connection carries.
    async fn attempt(&mut self) -> Result<(), Failure> {
        let mut response = self.repository.get(&self.part, self.done).await?;
        // Nothing is behind what came before.
        if response.status() == StatusCode::RANGE_NOT_SATISFIABLE {
            return Err(self.wrong_size(self.done).into());
        }
        let start = self.start(&response)?;
        if let (Some(size), Some(length)) = (self.size, response.content_length())
            && start.checked_add(length) != Some(size)
        {
            return Err(self.wrong_size(start.saturating_add(length)).into());
        }
        // A server without ranges begins anew.
        let mut skip = self.done - start;
        let url = response.url().clone();
        loop {
            let next = response.chunk().await;
            let next = next.map_err(|error| self.repository.broken(&url, error))?;
            let Some(mut chunk) = next else {
                break;
            };
            let skipped = skip.min(chunk.len() as u64);
            chunk.advance(skipped as usize);
            skip -= skipped;
            self.hand_over(chunk).await?;
        }
        match self.size {
            // An end without a length may be that of the connection; another attempt shows.
            Some(size) if size != self.done => Err(Failure::Passing {
                error: self.wrong_size(self.done),
                after: None,
            }),
            None if skip > 0 => Err(self.wrong_size(self.done - skip).into()),
            _ => Ok(()),
        }
    }

    /// The byte of the blob that a response begins with.
    fn start(&self, response: &Response) -> Result<u64, Failure> {
        if response.status() != StatusCode::PARTIAL_CONTENT {
            return Ok(0);
        }
        let start = range_start(response.headers()).filter(|start| *start <= self.done);
        start.ok_or_else(|| {
            let (name, digest) = (&self.repository.name, self.digest);
            Error::new(
                ErrorKind::Input,
                format!("cannot read {name}: another part of {digest} came than was asked for"),
            )
            .into()
        })
    }

    async fn hand_over(&mut self, mut chunk: Bytes) -> Result<(), Failure> {
        let len = chunk.len() as u64;
        let end = self.done.saturating_add(len);
        if self.size.is_some_and(|size| end > size) {
            return Err(self.wrong_size(end).into());
        }
        while !chunk.is_empty() {
            let part = chunk.split_to(chunk.len().min(WINDOW / 4));
            let permits = u32::try_from(cost(&part)).unwrap_or(u32::MAX);
            let gone = || Failure::Final(Error::cancelled());
            let permits = self.window.acquire_many(permits).await;
            // The reader gives them back.
            permits.map_err(|_| gone())?.forget();
            self.done += part.len() as u64;
            self.news.send(News::Bytes(part)).map_err(|_| gone())?;
        }
        Ok(())
    }

    fn wrong_size(&self, found: u64) -> Error {
        let (name, digest) = (&self.repository.name, self.digest);
        let (registry, size) = (name.registry(), self.size.unwrap_or(self.done));
        let sends = match found > size {
            true => "more".to_owned(),
            false => found.to_string(),
        };
        Error::new(
            ErrorKind::Mismatch,
            format!("cannot read {name}: {digest} has {size} bytes, and {registry} sends {sends}"),
        )
    }
}

/// The first byte of a `Content-Range`.
fn range_start(headers: &HeaderMap) -> Option<u64> {
    let range = headers.get(CONTENT_RANGE)?.to_str().ok()?;
    let (start, _) = range.trim().strip_prefix("bytes ")?.split_once('-')?;
    start.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_begin_at_their_first_number() {
        for (text, expected) in [
            ("bytes 5-9/10", Some(5)),
            ("bytes 0-9/*", Some(0)),
            ("bytes */10", None),
            ("5-9/10", None),
            ("bytes -9/10", None),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert(CONTENT_RANGE, text.parse().unwrap());
            assert_eq!(range_start(&headers), expected, "{text}");
        }
    }
}
