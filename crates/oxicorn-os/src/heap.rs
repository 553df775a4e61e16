//! The allocator's memory.

/// Gives the kernel back what the allocator keeps though nobody uses it. Takes milliseconds: for
/// after a flood, not for every day. Where the allocator cannot, nothing happens.
pub fn trim() {
    #[cfg(target_env = "gnu")]
    // SAFETY: takes no pointers; glibc locks its own structures.
    unsafe {
        libc::malloc_trim(0);
    }
}

/// Has the allocator keep up to `spare` bytes that are free at the end of its heap: by itself it gives more than 128 KiB
/// back to the kernel at once, to get the same pages, filled with zeros, with the next block. Blocks of `apart` bytes and
/// more do not come from there: they can grow where they are, and go as a whole. To be said before there are other
/// threads. Where the allocator cannot, nothing happens.
pub fn keep_spare(spare: usize, apart: usize) {
    #[cfg(target_env = "gnu")]
    for (parameter, bytes) in [
        (libc::M_TRIM_THRESHOLD, spare),
        (libc::M_MMAP_THRESHOLD, apart),
    ] {
        let bytes = libc::c_int::try_from(bytes).unwrap_or(libc::c_int::MAX);
        // SAFETY: takes no pointers; a value that it does not like changes nothing.
        unsafe { libc::mallopt(parameter, bytes) };
    }
}

/// [`trim`]s if at least so many bytes are free: for who has nothing else to do.
pub fn trim_spare(least: usize) {
    #[cfg(target_env = "gnu")]
    {
        // SAFETY: takes no pointers; glibc locks its own structures. (Of `mallinfo2`, which can count beyond 4 GiB, older
        // ones know nothing.)
        let found = unsafe { libc::mallinfo() };
        if found.fordblks.cast_unsigned() as usize >= least {
            trim();
        }
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn what_is_in_use_stays() {
        super::keep_spare(1 << 21, 1 << 19);
        let kept = vec![7_u8; 1 << 20];
        super::trim();
        super::trim_spare(0);
        assert!(kept.iter().all(|&byte| byte == 7));
    }
}
