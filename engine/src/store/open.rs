//! Which of the two meta pages counts, and whether what it says can be.

use super::Pages;
use super::damage::{DamageKind, OpenError, StoreDamage};
use super::node::page_bytes;
use super::page::{
    COUNT_ELSEWHERE, FREELIST, HEADER_LEN, META_LEN, Meta, NoMeta, PAGE_SIZE_MAX, PAGE_SIZE_MIN,
    PAGE_SIZE_NEW, PageNo, u64_at,
};
use super::space::Runs;

/// The newer valid meta page and its place (0 or 1), as bbolt chooses.
pub(super) fn choose_meta(pages: &dyn Pages, file_len: u64) -> Result<(Meta, u64), OpenError> {
    let first = meta_at(pages, 0);
    let (second_offset, second) = match &first {
        Ok(meta) => {
            let offset = u64::from(meta.page_size);
            (offset, meta_at(pages, offset))
        }
        Err(_) => find_second(pages),
    };
    let second = second.and_then(|meta| {
        // A page size that contradicts the place is nobody's.
        let fits = u64::from(meta.page_size) == second_offset;
        fits.then_some(meta).ok_or(NoMeta::PageSize(meta.page_size))
    });
    let (meta, slot) = match (first, second) {
        (Ok(first), Ok(second)) if second.txid > first.txid => (second, 1),
        (Ok(first), _) => (first, 0),
        (Err(_), Ok(second)) => (second, 1),
        (Err(first), Err(second)) => {
            return Err(no_meta(pages, file_len, first, second, second_offset));
        }
    };
    check_range(&meta, slot, file_len)?;
    Ok((meta, slot))
}

fn meta_at(pages: &dyn Pages, offset: u64) -> Result<Meta, NoMeta> {
    let bytes = pages.bytes(offset + HEADER_LEN as u64, META_LEN);
    Meta::decode(bytes.ok_or(NoMeta::Magic)?)
}

/// The first meta page says nothing about the page size, so the second one is looked for wherever it could be.
fn find_second(pages: &dyn Pages) -> (u64, Result<Meta, NoMeta>) {
    let mut offset = u64::from(PAGE_SIZE_MIN);
    while offset <= u64::from(PAGE_SIZE_MAX) {
        if let Ok(meta) = meta_at(pages, offset)
            && u64::from(meta.page_size) == offset
        {
            return (offset, Ok(meta));
        }
        offset *= 2;
    }
    let usual = u64::from(PAGE_SIZE_NEW);
    (usual, meta_at(pages, usual))
}

fn no_meta(
    pages: &dyn Pages,
    file_len: u64,
    first: NoMeta,
    second: NoMeta,
    second_offset: u64,
) -> OpenError {
    let known = [(0, first), (second_offset, second)];
    for (offset, found) in known {
        let offset = offset + HEADER_LEN as u64;
        match found {
            NoMeta::Version(found) => return OpenError::Version { offset, found },
            NoMeta::PageSize(found) => return OpenError::PageSize { offset, found },
            NoMeta::Magic | NoMeta::Checksum => {}
        }
    }
    // A crash may have kept any length of the new file.
    let is_blank = |offset| {
        let len = file_len
            .saturating_sub(offset)
            .min((HEADER_LEN + META_LEN) as u64);
        let bytes = pages.bytes(offset, len as usize);
        len == 0 || bytes.is_some_and(|bytes| bytes.iter().all(|byte| *byte == 0))
    };
    if is_blank(0) && is_blank(second_offset) {
        return OpenError::Unborn;
    }
    if file_len < second_offset + (HEADER_LEN + META_LEN) as u64 {
        return OpenError::TooShort { len: file_len };
    }
    let second = second_offset;
    if known.iter().all(|(_, found)| *found == NoMeta::Magic) {
        return OpenError::NotBbolt { second };
    }
    OpenError::BothMetasDamaged { second }
}

fn check_range(meta: &Meta, slot: u64, file_len: u64) -> Result<(), OpenError> {
    let offset = slot * u64::from(meta.page_size) + HEADER_LEN as u64;
    let pages = meta.high_water;
    let has_room = pages
        .checked_mul(u64::from(meta.page_size))
        .is_some_and(|needed| needed <= file_len);
    if !has_room {
        let len = file_len;
        return Err(OpenError::Truncated { offset, pages, len });
    }
    let range = PageNo::FIRST.0..pages;
    let freelist = Some(meta.freelist).filter(|page| *page != PageNo::NO_FREELIST);
    for page in [Some(meta.root), freelist].into_iter().flatten() {
        if !range.contains(&page.0) {
            let limit = pages;
            let page = page.0;
            return Err(OpenError::PageOutside {
                offset,
                page,
                limit,
            });
        }
    }
    Ok(())
}

/// How many pages the stored list of free pages takes.
pub(super) fn freelist_len(pages: &dyn Pages, meta: &Meta) -> Result<u64, StoreDamage> {
    let (_, header, _) = page_bytes(pages, meta.page_size, meta.freelist)?;
    Ok(u64::from(header.overflow) + 1)
}

/// The free pages as the file lists them: in range, ascending, and none of them a page that is surely in use.
pub(super) fn stored_freelist(pages: &dyn Pages, meta: &Meta) -> Result<Runs, StoreDamage> {
    let (offset, header, bytes) = page_bytes(pages, meta.page_size, meta.freelist)?;
    let damage = |what| StoreDamage::new(offset, what);
    if header.flags != FREELIST {
        let found = header.flags;
        return Err(damage(DamageKind::WrongKind { found }));
    }
    let body = &bytes[HEADER_LEN..];
    let (count, body) = if header.count == COUNT_ELSEWHERE {
        (u64_at(body, 0), &body[8..])
    } else {
        (u64::from(header.count), body)
    };
    let count = usize::try_from(count)
        .ok()
        .filter(|count| *count <= body.len() / 8)
        .ok_or_else(|| damage(DamageKind::FreelistTooLong { count }))?;
    let own = meta.freelist.0..meta.freelist.0 + u64::from(header.overflow) + 1;
    let mut free = Runs::default();
    let mut run: Option<(u64, u64)> = None;
    let mut least = PageNo::FIRST.0;
    for index in 0..count {
        let page = u64_at(body, index * 8);
        let is_used = page == meta.root.0 || own.contains(&page);
        if page < least || page >= meta.high_water || is_used {
            return Err(damage(DamageKind::FreelistEntry { page }));
        }
        least = page + 1;
        match &mut run {
            Some((start, len)) if *start + *len == page => *len += 1,
            _ => {
                if let Some((start, len)) = run.replace((page, 1)) {
                    free.insert(start, len);
                }
            }
        }
    }
    if let Some((start, len)) = run {
        free.insert(start, len);
    }
    Ok(free)
}
