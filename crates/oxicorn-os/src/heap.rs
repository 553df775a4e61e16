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

#[cfg(test)]
mod tests {
    #[test]
    fn what_is_in_use_stays() {
        let kept = vec![7_u8; 1 << 20];
        super::trim();
        assert!(kept.iter().all(|&byte| byte == 7));
    }
}
