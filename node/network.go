package node

import (
	"errors"
	"fmt"
	"io/fs"
	"os"

	"google.golang.org/protobuf/proto"

	"dengbei/node/config"
	"dengbei/node/nodepb"
)

// The file that enrolment leaves: what the node must know of the network before it has a state of its own.
func networkPath(cfg config.Config) string { return cfg.Path("network.pb") }

// loadNetwork reads what enrolment or founding left. [ErrNotEnrolled] if there is none.
func loadNetwork(cfg config.Config) (*nodepb.EnrolReply, error) {
	b, err := os.ReadFile(networkPath(cfg))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("%s: %w", cfg.DataDir, ErrNotEnrolled)
	}
	if err != nil {
		return nil, fmt.Errorf("read network file: %w", err)
	}
	var n nodepb.EnrolReply
	if err := proto.Unmarshal(b, &n); err != nil {
		return nil, fmt.Errorf("network file %s is damaged: enrol again with a new token: %w", networkPath(cfg), err)
	}
	return &n, nil
}

func saveNetwork(cfg config.Config, n *nodepb.EnrolReply) error {
	b, err := proto.MarshalOptions{Deterministic: true}.Marshal(n)
	if err != nil {
		return fmt.Errorf("write network file: %w", err)
	}
	return writeDurable(networkPath(cfg), b)
}
