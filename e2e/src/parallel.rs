//! Bounded concurrency over a slice.

use std::future::Future;
use std::task::Poll;

/// Runs `work` on every item, at most `limit` at a time, and returns the results in the order of the items. The first
/// error ends the whole; work that has begun is dropped.
pub async fn map<'a, I, T, E, F, W>(limit: usize, items: &'a [I], work: W) -> Result<Vec<T>, E>
where
    W: Fn(&'a I) -> F,
    F: Future<Output = Result<T, E>>,
{
    let mut waiting = items.iter().enumerate();
    let mut running: Vec<(usize, std::pin::Pin<Box<F>>)> = Vec::new();
    let mut results: Vec<Option<T>> = std::iter::repeat_with(|| None).take(items.len()).collect();
    std::future::poll_fn(|context| {
        loop {
            while running.len() < limit.max(1) {
                let Some((index, item)) = waiting.next() else {
                    break;
                };
                running.push((index, Box::pin(work(item))));
            }
            if running.is_empty() {
                return Poll::Ready(Ok(()));
            }
            let before = running.len();
            let mut at = 0;
            while at < running.len() {
                let (index, future) = &mut running[at];
                match future.as_mut().poll(context) {
                    Poll::Pending => at += 1,
                    Poll::Ready(Ok(result)) => {
                        results[*index] = Some(result);
                        drop(running.swap_remove(at));
                    }
                    Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                }
            }
            if running.len() == before {
                return Poll::Pending;
            }
        }
    })
    .await?;
    Ok(results.into_iter().flatten().collect())
}

#[cfg(test)]
mod tests {
    use super::map;

    #[tokio::test]
    async fn results_keep_the_order_and_the_limit_holds() {
        let items: Vec<u64> = (0..50).collect();
        let running = std::cell::Cell::new(0);
        let results = map(7, &items, |item| {
            let (item, running) = (*item, &running);
            async move {
                running.set(running.get() + 1);
                assert!(running.get() <= 7);
                for _ in 0..(50 - item) {
                    tokio::task::yield_now().await;
                }
                running.set(running.get() - 1);
                Ok::<_, ()>(item * 2)
            }
        })
        .await;
        assert_eq!(results, Ok(items.iter().map(|item| item * 2).collect()));
    }

    #[tokio::test]
    async fn the_first_error_ends_it() {
        let result = map(2, &[1, 2, 3], |item| async move {
            if *item == 2 { Err(*item) } else { Ok(()) }
        })
        .await;
        assert_eq!(result, Err(2));
    }
}
