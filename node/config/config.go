// Package config is the configuration of a node. The [Config] struct is the manual: meaning, unit, default, and what
// breaks if a value is wrong.
package config

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"regexp"

	"github.com/knadh/koanf/parsers/yaml"
	"github.com/knadh/koanf/providers/file"
	"github.com/knadh/koanf/v2"
)

// ErrInvalid is returned for a configuration that cannot work; the text names the key.
var ErrInvalid = errors.New("invalid configuration")

// Config is everything a node reads at start. Nothing of it is agreed on with other centres except what enrolment
// hands over (addresses, place, failure domain).
type Config struct {
	// DataDir holds everything the node owns: keys, Raft log, state, repositories, quarantine. It is created with
	// mode 0700. Relative paths are relative to the configuration file's directory. Required.
	DataDir string `koanf:"data_dir"`

	// Centre is this centre's GB/T 2260 code, six digits. Required; it must be the code of the invitation.
	Centre string `koanf:"centre"`

	// Peer is the mTLS port for Raft, gRPC and the command line. Default listen 0.0.0.0:7400.
	Peer Endpoint `koanf:"peer"`

	// Gossip is the membership port, TCP and UDP. It carries hints only. Default listen 0.0.0.0:7401.
	Gossip Endpoint `koanf:"gossip"`

	// Web serves health and the public log. Default listen 0.0.0.0:7443.
	Web Endpoint `koanf:"web"`

	// Proxy, if set, is the host:port of an HTTP CONNECT proxy through which this node dials its peers. TLS runs end
	// to end through it. For centres behind a gateway.
	Proxy string `koanf:"proxy"`

	// Longitude and Latitude are the place of the centre's store in degrees (WGS 84). Distances between copies are
	// computed from them, so wrong values make a wrong promise.
	Longitude float64 `koanf:"longitude"`
	Latitude  float64 `koanf:"latitude"`

	// Domain names what this node shares with others and could fail together with them.
	Domain Domain `koanf:"failure_domain"`

	// Timing is "wan" (default: heartbeat and election 3 s) or "lan" (1 s, for one site or one machine). Every node
	// of a network must use the same.
	Timing string `koanf:"timing"`

	// LogLevel is debug, info (default), warn or error.
	LogLevel string `koanf:"log_level"`

	// StateCacheBytes bounds the block cache of the state. Default 16 MiB, enough for a small centre.
	StateCacheBytes int64 `koanf:"state_cache_bytes"`

	// PullBytesPerSecond limits what this node fetches from its peers for off-site copies. 0 (default) = no limit.
	PullBytesPerSecond int64 `koanf:"pull_bytes_per_second"`
}

// Endpoint is where a port listens and how others reach it.
type Endpoint struct {
	Listen string `koanf:"listen"` // host:port on this machine
	// Advertise is the host:port others dial. Default: Listen. Required when Listen has no host that others can reach.
	Advertise string `koanf:"advertise"`
}

// Domain is a declared failure domain. Two copies that share any non-empty value count as one place.
type Domain struct {
	Site          string `koanf:"site"`          // building
	Power         string `koanf:"power"`         // power feed
	Array         string `koanf:"array"`         // disk array
	Administrator string `koanf:"administrator"` // organisation or duty that holds the administrator's rights
}

// Default returns the values that hold where a file says nothing.
func Default() Config {
	return Config{
		Peer:            Endpoint{Listen: "0.0.0.0:7400"},
		Gossip:          Endpoint{Listen: "0.0.0.0:7401"},
		Web:             Endpoint{Listen: "0.0.0.0:7443"},
		Timing:          "wan",
		LogLevel:        "info",
		StateCacheBytes: 16 << 20,
	}
}

// maxFileBytes bounds a configuration file; one is a few hundred bytes.
const maxFileBytes = 1 << 20

// Load reads the YAML file at path over [Default] and validates the result. Unknown keys are an error.
func Load(path string) (Config, error) {
	// The parser reads a file whole, and a device for ever.
	if info, err := os.Stat(path); err == nil && (info.Mode()&fs.ModeDevice != 0 || info.Size() > maxFileBytes) {
		return Config{}, fmt.Errorf("configuration %s: %w: a device or longer than %d bytes", path, ErrInvalid, maxFileBytes)
	}
	k := koanf.New(".")
	if err := k.Load(file.Provider(path), yaml.Parser()); err != nil {
		return Config{}, fmt.Errorf("read configuration %s: %w", path, err)
	}
	c := Default()
	conf := koanf.UnmarshalConf{Tag: "koanf"}
	if err := k.UnmarshalWithConf("", &c, conf); err != nil {
		return Config{}, fmt.Errorf("configuration %s: %w: %w", path, ErrInvalid, err)
	}
	for _, key := range k.Keys() {
		if !known[key] {
			return Config{}, fmt.Errorf("configuration %s: %w: unknown key %q", path, ErrInvalid, key)
		}
	}
	if c.DataDir != "" && !filepath.IsAbs(c.DataDir) {
		abs, err := filepath.Abs(filepath.Join(filepath.Dir(path), c.DataDir))
		if err != nil {
			return Config{}, fmt.Errorf("configuration %s: data_dir: %w", path, err)
		}
		c.DataDir = abs
	}
	if err := c.Validate(); err != nil {
		return Config{}, fmt.Errorf("configuration %s: %w", path, err)
	}
	return c, nil
}

var known = map[string]bool{
	"data_dir": true, "centre": true, "proxy": true, "longitude": true, "latitude": true, "timing": true,
	"log_level": true, "state_cache_bytes": true, "pull_bytes_per_second": true,
	"peer.listen": true, "peer.advertise": true, "gossip.listen": true, "gossip.advertise": true,
	"web.listen": true, "web.advertise": true,
	"failure_domain.site": true, "failure_domain.power": true, "failure_domain.array": true,
	"failure_domain.administrator": true,
}

var code = regexp.MustCompile(`^[1-9][0-9]{5}$`)

// Validate reports the first value that cannot work and fills in what follows from others (advertised addresses).
func (c *Config) Validate() error {
	if c.DataDir == "" {
		return fmt.Errorf("%w: data_dir is empty: name the directory that holds this node's data", ErrInvalid)
	}
	if !code.MatchString(c.Centre) {
		return fmt.Errorf("%w: centre %q is not a six-digit GB/T 2260 code", ErrInvalid, c.Centre)
	}
	for _, e := range []struct {
		key string
		ep  *Endpoint
	}{{"peer", &c.Peer}, {"gossip", &c.Gossip}, {"web", &c.Web}} {
		if _, _, err := net.SplitHostPort(e.ep.Listen); err != nil {
			return fmt.Errorf("%w: %s.listen %q: %w", ErrInvalid, e.key, e.ep.Listen, err)
		}
		if e.ep.Advertise == "" {
			e.ep.Advertise = e.ep.Listen
		}
		if _, _, err := net.SplitHostPort(e.ep.Advertise); err != nil {
			return fmt.Errorf("%w: %s.advertise %q: %w", ErrInvalid, e.key, e.ep.Advertise, err)
		}
	}
	if c.Longitude < -180 || c.Longitude > 180 || c.Latitude < -90 || c.Latitude > 90 {
		return fmt.Errorf("%w: longitude %v, latitude %v are no place on earth", ErrInvalid, c.Longitude, c.Latitude)
	}
	switch c.Timing {
	case "wan", "lan":
	default:
		return fmt.Errorf("%w: timing %q, want wan or lan", ErrInvalid, c.Timing)
	}
	switch c.LogLevel {
	case "debug", "info", "warn", "error":
	default:
		return fmt.Errorf("%w: log_level %q, want debug, info, warn or error", ErrInvalid, c.LogLevel)
	}
	if c.StateCacheBytes < 1<<20 {
		return fmt.Errorf("%w: state_cache_bytes %d, want at least 1 MiB", ErrInvalid, c.StateCacheBytes)
	}
	if c.PullBytesPerSecond < 0 {
		return fmt.Errorf("%w: pull_bytes_per_second %d is negative", ErrInvalid, c.PullBytesPerSecond)
	}
	return nil
}

// Path returns a path below DataDir.
func (c Config) Path(elem ...string) string {
	return filepath.Join(append([]string{c.DataDir}, elem...)...)
}

// ProxyURL returns Proxy as a URL, empty if there is none.
func (c Config) ProxyURL() string {
	if c.Proxy == "" {
		return ""
	}
	return "http://" + c.Proxy
}

// MakeDataDir creates DataDir with mode 0700 and refuses one that others may read.
func (c Config) MakeDataDir() error {
	if err := os.MkdirAll(c.DataDir, 0o700); err != nil {
		return fmt.Errorf("create data_dir: %w", err)
	}
	info, err := os.Stat(c.DataDir)
	if err != nil {
		return fmt.Errorf("data_dir: %w", err)
	}
	if info.Mode().Perm()&0o077 != 0 {
		return fmt.Errorf("%w: data_dir %s has mode %04o: run chmod 0700 on it, keys lie there", ErrInvalid, c.DataDir, info.Mode().Perm())
	}
	return nil
}
