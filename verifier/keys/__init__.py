"""Where nonce, CA, result and TLS keys live: files of mode 0600 in one directory of mode 0700."""
