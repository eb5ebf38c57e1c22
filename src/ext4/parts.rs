//! Blocks that are made in parallel, in parts, and what writes them one after the other.

use rayon::prelude::*;

use super::writer::BlockSink;
use crate::error::Result;

/// Writes parts in their order, while those that come next are made.
///
/// `make` appends the blocks of a part to an empty buffer and says where the first one goes; it
/// is called on all threads of the current pool.
pub(super) fn write<P: Sync>(
    sink: &mut impl BlockSink,
    parts: &[P],
    make: impl Fn(&P, &mut Vec<u8>) -> Result<u64> + Sync,
) -> Result<()> {
    // More would only take memory.
    let at_a_time = 2 * rayon::current_num_threads();
    let make = |batch: &[P]| -> Result<Vec<_>> {
        let made = batch.par_iter().map(|part| {
            let mut blocks = Vec::new();
            let start = make(part, &mut blocks)?;
            Ok((start, blocks))
        });
        made.collect()
    };
    make_and_write(parts.chunks(at_a_time), make, |made| {
        made.iter()
            .try_for_each(|(start, blocks)| sink.write(*start, blocks))
    })
}

/// Makes batches, in parallel where `make` is, and writes each while the next one is made.
fn make_and_write<B: Send, M: Send>(
    batches: impl IntoIterator<Item = B>,
    make: impl Fn(B) -> Result<M> + Sync,
    mut write: impl FnMut(M) -> Result<()> + Send,
) -> Result<()> {
    let mut last = None;
    for batch in batches {
        let (made, written) = match last.take() {
            Some(last) => rayon::join(|| make(batch), || write(last)),
            None => (make(batch), Ok(())),
        };
        written?;
        last = Some(made?);
    }
    last.map_or(Ok(()), write)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Error;

    /// Runs numbered batches of which some fail to be made or written; answers what was
    /// written and the error, in a pool of so many threads.
    fn run(threads: usize, made_until: u32, written_until: u32) -> (Vec<u32>, Option<String>) {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build();
        let mut written = Vec::new();
        let failed = |what: &str, batch: u32| Error::limit(format!("{what} {batch}"));
        let result = pool.unwrap().install(|| {
            make_and_write(
                0..10,
                |batch| match batch < made_until {
                    true => Ok(batch),
                    false => Err(failed("make", batch)),
                },
                |batch| {
                    if batch >= written_until {
                        return Err(failed("write", batch));
                    }
                    written.push(batch);
                    Ok(())
                },
            )
        });
        (written, result.err().map(|error| error.to_string()))
    }

    #[test]
    fn batches_are_written_in_order_and_the_first_error_is_told() {
        for threads in [1, 2, 4] {
            assert_eq!(run(threads, 10, 10), ((0..10).collect(), None));
            assert_eq!(
                run(threads, 10, 9),
                ((0..9).collect(), Some("write 9".into()))
            );
            assert_eq!(
                run(threads, 5, 10),
                ((0..5).collect(), Some("make 5".into()))
            );
            assert_eq!(
                run(threads, 5, 4),
                ((0..4).collect(), Some("write 4".into()))
            );
            assert_eq!(run(threads, 0, 0), (Vec::new(), Some("make 0".into())));
        }
    }
}
