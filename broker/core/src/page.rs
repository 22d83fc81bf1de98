//! Pages: a bounded look at a filter, at once or when there is something to see. A long-poll is a page that waits.

use std::{future::poll_fn, sync::atomic::Ordering, task::Poll};

use tailwire_model::{
    Cursor, Gap,
    limits::{PAGE_BYTES_MAX, PAGE_TURNS_MAX, SCAN_BYTES_MAX},
};

use crate::{
    error::ReadError,
    log::Budget,
    reader::{ReadStep, Reader, Until},
    segment::{Slice, Slices, View},
};

/// The result of one look.
pub enum Page {
    /// Messages, or none. With `more`, there may be others right behind them.
    Messages {
        /// The messages, oldest first.
        slices: Slices,
        /// Where to look next.
        cursor: Cursor,
        /// Whether a limit ended the page, and not the tail; of a look backwards, whether there may be older ones.
        more: bool,
    },
    /// Messages are gone that the cursor has not seen.
    Gap(Gap),
}

/// Has a page wait for its first message.
#[derive(Debug, Clone)]
pub struct PageWait {
    /// How long.
    pub until: Until,
    /// On this shard's tails.
    pub shard: usize,
}

impl Reader {
    /// Reads a page of at most `limit` messages.
    ///
    /// # Errors
    /// When the log can't be read.
    pub async fn page(&mut self, limit: usize, wait: Option<PageWait>) -> Result<Page, ReadError> {
        self.answer_within(Budget { messages: limit, bytes: PAGE_BYTES_MAX, scan_bytes: SCAN_BYTES_MAX });
        let asked = self.cursor();
        let mut turns = 0;
        loop {
            match poll_fn(|cx| self.poll_page_step(cx, wait.as_ref())).await? {
                Some(ReadStep::Messages(slices)) => return Ok(self.full(slices, limit)),
                Some(ReadStep::Gap(gap)) => return Ok(Page::Gap(gap)),
                Some(ReadStep::Scanned) => {
                    turns += 1;
                    if turns >= PAGE_TURNS_MAX && self.position() < self.watermark() {
                        // Nothing yet, and much to look at: the cursor has to move for the next page to get further.
                        return Ok(Page::Messages {
                            slices: Slices::new(),
                            cursor: self.cursor(),
                            more: true,
                        });
                    }
                }
                Some(ReadStep::AtTail) | None => {
                    return Ok(Page::Messages { slices: Slices::new(), cursor: asked, more: false });
                }
            }
        }
    }

    /// One step; `None` when the wait is over.
    fn poll_page_step(
        &mut self,
        cx: &mut std::task::Context<'_>,
        wait: Option<&PageWait>,
    ) -> Poll<Result<Option<ReadStep>, ReadError>> {
        loop {
            if self.is_in_question() {
                return Poll::Ready(Ok(None));
            }
            let polled = self.poll_step(cx);
            let waits = self.is_following() && matches!(polled, Poll::Ready(Ok(ReadStep::AtTail)));
            if let Some(PageWait { until: Until::Dropped(stands), .. }) = wait {
                stands.store(waits, Ordering::Release);
            }
            let step = std::task::ready!(polled)?;
            let (ReadStep::AtTail, Some(wait)) = (&step, wait) else { return Poll::Ready(Ok(Some(step))) };
            if waits {
                return self.poll_wait(cx, &wait.until).map(|()| Ok(None));
            }
            self.follow(wait.shard);
        }
    }

    fn full(&self, slices: Slices, limit: usize) -> Page {
        let (mut slices, mut cut) = cut_to_limit(slices, limit);
        if let Some(bytes_max) = self.view().bytes_max() {
            cut |= cut_to_bytes(&mut slices, self.view(), bytes_max);
        }
        let last = slices.last().map_or(self.position(), Slice::last);
        let more = cut || self.position() < self.watermark();
        // One topic's tail is known for sure, so that its last page says so.
        let more = more && (self.filter().only_topic().is_none() || self.bounds().tail > last);
        Page::Messages { slices, cursor: self.shared().cursor_at(last), more }
    }

    fn bounds(&self) -> crate::log::Bounds {
        self.shared().store.bounds(self.filter())
    }
}

/// Leaves out what makes a page longer than one message may be, for clients with a bound: a page is one line to some. Answers
/// whether there was any.
fn cut_to_bytes(slices: &mut Slices, view: View, bytes_max: usize) -> bool {
    let mut left = bytes_max;
    for index in 0..slices.len() {
        let fits = slices[index].each().take_while(|one| {
            let bytes = one.bytes(view).len();
            let fits = bytes <= left;
            left = left.saturating_sub(bytes);
            fits
        });
        // One is always given.
        let fits = fits.count().max(usize::from(index == 0));
        if fits < slices[index].len() {
            let last = (fits > 0).then(|| slices[index].first(fits));
            slices.truncate(index);
            slices.extend(last);
            return true;
        }
    }
    false
}

/// The first `limit` messages, and whether there were others.
fn cut_to_limit(slices: Slices, limit: usize) -> (Slices, bool) {
    let mut left = limit.max(1);
    let total: usize = slices.iter().map(Slice::len).sum();
    let mut kept = Slices::new();
    for slice in slices {
        if left == 0 {
            break;
        }
        let slice = slice.first(left);
        left -= slice.len();
        kept.push(slice);
    }
    (kept, total > limit)
}
