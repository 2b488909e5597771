// Package term is what the commands share on the person's side: streams, results as text or as JSON, progress, and errors
// that say which exit code they mean.
package term
