// Package chunkstore keeps one centre's backup bytes on disk. It knows no network, no consensus and no key.
//
// A [Files] is one repository directory in restic's layout, format version 2: config, keys/<id>, snapshots/<id>,
// index/<id>, locks/<id>, data/<2 hex>/<id>. Every file but config is named by the SHA-256 of its bytes, so whoever
// holds the directory can verify each byte of it without being able to read any of it. Owners and holders use the
// same type; what the bytes mean is the business of package repository.
//
// # Durability
//
// When a call that stores a file returns nil, the bytes were hashed as they came, written to a file in tmp/ and synced,
// given their name by a rename, and the directory was synced: they survive a power cut, and so does every directory on
// the way to them. [Incoming.Commit] moreover reads the bytes back from the disk before they get their name. When
// [Files.Remove] returns nil, the file does not come back.
//
// A call that returns an error has stored nothing, or, when the disk failed at the very last sync, a whole file that a
// power cut may take away again; a call that is cut off by a kill or a power cut likewise. A file under a final name is
// whole at every instant. The config is never replaced by another.
//
// # After a crash
//
// Beside whole files there may be files in tmp/. The next [Open] removes those that no running process holds, except
// the parts of unfinished receives, which are kept so that a transfer resumes: a part is hashed again before it is
// trusted. A file that was being moved aside by [Files.Quarantine] is at one of the two places or at both.
//
// This relies on what journaling file systems such as ext4 and xfs promise for synced files and directories, and on
// renames that never leave a file without any name. The tests of package chunktest cut the power after every step of
// every operation of the chunk store, on that model and no other.
//
// # Concurrency
//
// All methods of [Files] may be called concurrently, also from several processes and beside stock restic. Files appear
// and vanish as a whole; a file that is open is read to its end though it is removed meanwhile. Two who store the same
// file at once store it once, two who receive the same file do so one after the other ([ErrBusy]). Who may write to a
// repository at all is a matter of locks, and so of package repository.
//
// Sizes and offsets are bytes.
package chunkstore
