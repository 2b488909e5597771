package replication

import (
	"context"
	"log/slog"

	"dengbei/chunkstore/digest"
)

// FetchDocument gets one immutable document of a repository from the first source that has it in good order, stores it
// and returns its text. Without any such source the error matches [ErrIncomplete].
func FetchDocument(ctx context.Context, repository string, sum digest.Digest, sources []Source, docs Documents) ([]byte, error) {
	c := &Config{Documents: docs, Stall: defaultStall, Observer: silent{}, Logger: slog.New(slog.DiscardHandler)}
	return documentFetch{c: c, limiter: NewLimiter(0), repository: repository, sum: sum}.from(ctx, sources)
}
