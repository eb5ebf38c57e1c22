//! Conversions that run: how many at once, in which snapshots, and how they end.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tar2vhd::CancelToken;
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore};
use tonic::Status;

/// Descriptors of a conversion beside those of the layers below: blob, disk, directory, and some
/// to spare.
const OWN: u32 = 16;

/// The conversions of this process.
#[derive(Clone, Debug)]
pub(crate) struct Conversions {
    places: Arc<Semaphore>,
    /// Descriptors that conversions may have open, one for each layer below and some more.
    descriptors: Arc<Semaphore>,
    most: u32,
    running: Arc<Mutex<BTreeMap<u64, Stop>>>,
}

/// Stops a conversion: the thread that converts, and whoever feeds it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Stop {
    token: CancelToken,
    stopped: Arc<Notify>,
}

impl Stop {
    pub(crate) fn stop(&self) {
        self.token.cancel();
        self.stopped.notify_one();
    }

    pub(crate) fn token(&self) -> CancelToken {
        self.token.clone()
    }

    pub(crate) fn is_stopped(&self) -> bool {
        self.token.is_cancelled()
    }

    /// Waits until the conversion is stopped.
    pub(crate) async fn stopped(&self) {
        self.stopped.notified().await;
    }
}

impl Conversions {
    pub(crate) fn new(max_concurrent: usize, descriptors: u32) -> Self {
        Self {
            places: Arc::new(Semaphore::new(max_concurrent)),
            descriptors: Arc::new(Semaphore::new(descriptors as usize)),
            most: descriptors,
            running: Arc::default(),
        }
    }

    /// Takes a snapshot to convert a layer into, which nobody else may do meanwhile, nor commit
    /// it.
    pub(crate) fn claim(&self, id: u64) -> Result<Claim, Status> {
        if self.places.is_closed() {
            return Err(shutting_down());
        }
        self.hold(id)
    }

    /// Keeps conversions away from a snapshot.
    pub(crate) fn hold(&self, id: u64) -> Result<Claim, Status> {
        let mut running = self.lock();
        if running.contains_key(&id) {
            return Err(busy(id));
        }
        let stop = Stop::default();
        running.insert(id, stop.clone());
        Ok(Claim {
            id,
            stop,
            conversions: self.clone(),
        })
    }

    /// An error while a layer is converted into the snapshot.
    pub(crate) fn check_idle(&self, id: u64) -> Result<(), Status> {
        match self.lock().contains_key(&id) {
            true => Err(busy(id)),
            false => Ok(()),
        }
    }

    /// Cancels what is converted into a snapshot that goes away.
    pub(crate) fn cancel(&self, id: u64) {
        if let Some(stop) = self.lock().get(&id) {
            stop.stop();
        }
    }

    /// Cancels all, and lets none start.
    pub(crate) fn cancel_all(&self) -> usize {
        self.places.close();
        self.descriptors.close();
        let running = self.lock();
        running.values().for_each(Stop::stop);
        running.len()
    }

    /// The number of conversions that run or wait.
    pub(crate) fn len(&self) -> usize {
        self.lock().len()
    }

    pub(crate) fn is_shutting_down(&self) -> bool {
        self.places.is_closed()
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<u64, Stop>> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A conversion that has its place; held by the thread that converts, to its end.
#[derive(Debug)]
pub(crate) struct Conversion {
    claim: Claim,
    _place: OwnedSemaphorePermit,
    _descriptors: OwnedSemaphorePermit,
}

impl Conversion {
    pub(crate) fn handle(&self) -> Stop {
        self.claim.stop.clone()
    }
}

/// A snapshot that nobody else converts a layer into.
#[derive(Debug)]
pub(crate) struct Claim {
    id: u64,
    stop: Stop,
    conversions: Conversions,
}

impl Claim {
    /// Waits for a place to convert, and for the descriptors that layers `below` take.
    pub(crate) async fn start(self, below: usize) -> Result<Conversion, Status> {
        let most = self.conversions.most;
        let needed = u32::try_from(below).unwrap_or(u32::MAX).saturating_add(OWN);
        if needed > most {
            return Err(Status::resource_exhausted(format!(
                "a layer on {below} others takes {needed} file descriptors, and conversions may \
                 have {most}: raise the limit of this process (LimitNOFILE)"
            )));
        }
        let place = Arc::clone(&self.conversions.places).acquire_owned().await;
        let place = place.map_err(|_| shutting_down())?;
        let descriptors = Arc::clone(&self.conversions.descriptors);
        let descriptors = descriptors.acquire_many_owned(needed).await;
        let descriptors = descriptors.map_err(|_| shutting_down())?;
        Ok(Conversion {
            claim: self,
            _place: place,
            _descriptors: descriptors,
        })
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        self.conversions.lock().remove(&self.id);
    }
}

/// Stops a conversion when whoever asked for it goes away.
#[derive(Debug)]
pub(crate) struct StopOnDrop(pub(crate) Stop);

impl Drop for StopOnDrop {
    fn drop(&mut self) {
        self.0.stop();
    }
}

fn busy(id: u64) -> Status {
    Status::failed_precondition(format!("a layer is being converted into the snapshot {id}"))
}

pub(crate) fn shutting_down() -> Status {
    Status::unavailable("the plugin is shutting down")
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;
    use tonic::Code;

    fn run<F: Future>(future: F) -> F::Output {
        tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .build()
            .unwrap()
            .block_on(future)
    }

    #[test]
    fn so_many_run_and_each_snapshot_has_one() {
        run(async {
            let conversions = Conversions::new(1, 100);
            let first = conversions.claim(1).unwrap().start(0).await.unwrap();
            let twice = conversions.claim(1).unwrap_err();
            assert_eq!(twice.code(), Code::FailedPrecondition);
            let wait = Duration::from_millis(20);
            assert!(
                tokio::time::timeout(wait, conversions.claim(2).unwrap().start(0))
                    .await
                    .is_err()
            );
            // A caller that waited and went away holds no permit.
            assert_eq!(conversions.len(), 1);
            assert!(conversions.check_idle(1).is_err() && conversions.check_idle(2).is_ok());
            conversions.cancel(1);
            assert!(first.handle().is_stopped());
            assert!(conversions.hold(1).is_err());
            drop(first);
            let held = conversions.hold(1).unwrap();
            let twice = conversions.claim(1).unwrap_err();
            assert_eq!(twice.code(), Code::FailedPrecondition);
            drop(held);
            let second = conversions.claim(2).unwrap().start(0).await.unwrap();
            assert!(!second.handle().is_stopped());
            assert_eq!(conversions.cancel_all(), 1);
            assert!(second.handle().is_stopped());
            second.handle().stopped().await;
            let late = conversions.claim(3).unwrap_err();
            assert_eq!(late.code(), Code::Unavailable);
            // Conversions under way are still committed when the process is to end.
            drop(conversions.hold(3).unwrap());
        });
    }

    #[test]
    fn descriptors_are_waited_for() {
        run(async {
            let conversions = Conversions::new(9, 100);
            let deep = conversions.claim(1).unwrap().start(85).await.unwrap_err();
            assert_eq!(deep.code(), Code::ResourceExhausted);
            assert!(deep.message().contains("LimitNOFILE"), "{deep}");
            let first = conversions.claim(1).unwrap().start(84).await.unwrap();
            let wait = Duration::from_millis(20);
            let second = conversions.claim(2).unwrap().start(0);
            assert!(tokio::time::timeout(wait, second).await.is_err());
            drop(first);
            conversions.claim(2).unwrap().start(0).await.unwrap();
        });
    }
}
