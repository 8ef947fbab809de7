"""The commands of `deputy`, one noun a file; each reads its options, calls the library, and prints."""
