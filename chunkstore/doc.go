// Package chunkstore keeps one centre's backup bytes on disk. It knows no network, no consensus and no key.
//
// A [Files] is one repository directory in restic's layout, format version 2: config, keys/<id>, snapshots/<id>,
// index/<id>, locks/<id>, data/<2 hex>/<id>. Every file but config is named by the SHA-256 of its bytes, so whoever
// holds the directory can verify each byte of it without being able to read any of it. Owners and holders use the
// same type; what the bytes mean is the business of package repository.
//
// Durability: when a call that stores a file returns nil, the bytes were hashed, synced, given their name by a rename
// and the directory was synced; they survive a power cut. A call that returns an error, or a process killed at any
// point, leaves no file under a final name. What a crash leaves in tmp/ is removed by the next [Open], except the parts
// of unfinished receives, which are kept so that a transfer resumes.
//
// Sizes and offsets are bytes. All methods may be called concurrently, also from several processes.
package chunkstore
