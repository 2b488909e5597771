// Package repository reads and writes restic's repository format, version 2, on top of a set of files named by their
// SHA-256: keys, packs, index, trees and snapshots. Stock restic 0.14 and later reads what it writes, and the reverse.
//
// Terms are the format's. A blob is a piece of a file (data) or a directory (tree), named by the SHA-256 of its
// plaintext. A pack is a file of encrypted blobs, an index file says which blob lies where, a snapshot names the tree of
// a root directory. All of them are encrypted and authenticated with the repository's master key, which lies in key
// files under passwords.
//
// Reading is tolerant of what others put into the directory: a key, index or snapshot file that cannot be read is passed
// over and reported by [Repository.Unreadable] and [Repository.Snapshots], never an obstacle to what the caller names.
// Nothing is returned that does not hash to its name. A set of files that can heal (see [Healer]) is asked once when
// something cannot be read, and reading is tried again.
//
// Writing goes through a [Session]. Packs come first, then the index, then the snapshot, each durable before the next
// begins, so that a kill at any point leaves a sound repository with perhaps some packs that no index names yet;
// [Session.Adopt] takes those up. One session at a time may write to a repository; readers need no coordination.
//
// Which blob lies where is looked up in memory, at 60 to 110 bytes a blob, and opening reads all index files, about a
// second of processor time for 10^6 blobs. With [Options.CacheDir] that is kept in a table on disk, 50 bytes a blob,
// from some hundred thousand blobs on: opening then reads only index files that are new, an open repository takes some
// 2 MiB for 10^6 blobs and at most 60 MiB more for what was added since the table was written, and a look-up reads one
// block of 1 KiB, from the system's cache if there is room for it. Writing the table takes about 100 MiB, a few seconds
// for 10^6 blobs, and room on disk for twice the table; long sessions do it now and then. Neither time nor memory depends
// on what hostile index files say: of one blob at most 128 places are kept, and entries that no pack can hold make a file
// unreadable. The table is sealed with the master key and never believed over the index files: one that is missing,
// damaged, cut, or made of index files that are gone is made anew, while it is in use as well. Any number of processes
// may share a directory, and it may be removed at any time.
//
// Sizes are bytes, instants are kept as given. Methods may be called concurrently unless they say otherwise.
package repository
