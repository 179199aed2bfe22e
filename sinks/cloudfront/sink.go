package cloudfront

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/cloudfront"
	"github.com/aws/aws-sdk-go-v2/service/cloudfront/types"

	"github.com/walpurge/walpurge/rules/invalidation"
	"github.com/walpurge/walpurge/sinks"
	"github.com/walpurge/walpurge/sinks/httpsink"
)

// sameFor is how long the reference of an attempt without an answer is used
// again.
const sameFor = 10 * time.Minute

var _ sinks.Sink = (*Sink)(nil)

// Sink purges one distribution.
type Sink struct {
	*httpsink.Base
	cfg         Config
	log         *slog.Logger
	now         func() time.Time
	aws         *cloudfront.Client      // nil until credentials are needed
	credentials aws.CredentialsProvider // of aws
	references  *httpsink.Memory[string]
	accepted    atomic.Int64
}

// New returns a sink that has not connected yet. The error is Validate's.
func New(cfg Config, logger *slog.Logger) (*Sink, error) {
	if err := cfg.Validate(); err != nil {
		return nil, fmt.Errorf("cloudfront: %w", err)
	}
	return &Sink{
		Base: httpsink.NewBase("cloudfront", httpsink.Config{Proxy: true, Idle: 2, MaxBody: maxBody, TLS: cfg.TLS}),
		cfg:  cfg, log: logger, now: time.Now,
		references: httpsink.NewMemory[string](sameFor),
	}, nil
}

// Purge creates one invalidation of all that has no wildcard and one for every 15
// prefixes, and blocks until they are accepted, at most ten seconds.
//
// Values that CloudFront can never take are not sent. They and those of an
// invalidation that failed come back in a *sinks.BatchError; after one that
// failed, no further one is tried. If nothing was accepted, that error stands
// for the whole batch.
func (s *Sink) Purge(ctx context.Context, batch []invalidation.Invalidation) error {
	if err := s.Admit(batch, maxItems); err != nil || len(batch) == 0 {
		return err
	}
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("cloudfront: purge stopped: %w", err)
	}
	bounded, cancel := s.Bound(ctx)
	defer cancel()
	requests, failed := s.cfg.requests(batch)
	for i, r := range requests {
		err := s.invalidate(bounded, r.paths)
		if cause := ctx.Err(); cause != nil && err != nil {
			s.references.Clear()
			return fmt.Errorf("cloudfront: purge stopped: %w", cause)
		}
		if err == nil {
			continue
		}
		if i == 0 {
			return err
		}
		unsent := err
		if class, _ := sinks.ClassOf(err); class == sinks.Item {
			// Which path is at fault is found by trying less at a time, which the
			// lane does when the refused ones come by themselves.
			unsent = errLater
			if len(r.places) > 1 {
				err = errLater
			}
		}
		mark(failed, r, err)
		for _, rest := range requests[i+1:] {
			mark(failed, rest, unsent)
		}
		break
	}
	return httpsink.Refused(failed)
}

// errLater is transient.
var errLater = errors.New("cloudfront: an invalidation of several was refused; the paths are tried again in another call")

func mark(failed map[int]error, r request, err error) {
	for _, place := range r.places {
		failed[place] = err
	}
}

// invalidate creates one invalidation. Credentials that are refused may have been
// replaced meanwhile, so they are read again once.
func (s *Sink) invalidate(ctx context.Context, paths []string) error {
	sum := sumOf(paths)
	reference := s.reference(sum)
	known := s.aws != nil
	r, err := s.create(ctx, reference, paths)
	if err != nil && r.credentials() && known {
		s.forget()
		r, err = s.create(ctx, reference, paths)
	}
	if err != nil && r.credentials() {
		s.forget()
	}
	if err == nil || r.status > 0 && r.status < 500 {
		// There was an answer. The next equal call is another change.
		s.references.Forget(sum)
	}
	return err
}

func (s *Sink) create(ctx context.Context, reference string, paths []string) (refused, error) {
	client, err := s.client(ctx)
	if err != nil {
		return refused{}, err
	}
	out, err := client.CreateInvalidation(ctx, &cloudfront.CreateInvalidationInput{
		DistributionId: aws.String(s.cfg.DistributionID),
		InvalidationBatch: &types.InvalidationBatch{
			CallerReference: aws.String(reference),
			Paths:           &types.Paths{Quantity: aws.Int32(int32(len(paths))), Items: paths},
		},
	})
	if err != nil {
		r, answered := refusal(err, s.now())
		if ctx.Err() != nil || !answered || r.status < 300 {
			return refused{}, unanswered(ctx, err)
		}
		s.log.Debug("cloudfront refused", "status", r.status, "code", r.code, "request_id", r.id, "paths", len(paths))
		return r, r.verdict()
	}
	if out.Invalidation == nil || aws.ToString(out.Invalidation.Id) == "" || aws.ToString(out.Invalidation.Status) == "" {
		return refused{}, errors.New("cloudfront: the answer holds no invalidation; a proxy may have given it")
	}
	s.accepted.Add(int64(len(paths)))
	s.log.Debug("cloudfront invalidation", "id", *out.Invalidation.Id, "paths", len(paths))
	return refused{}, nil
}

func sumOf(paths []string) httpsink.Sum {
	all := make([]invalidation.Invalidation, len(paths))
	for i, p := range paths {
		all[i].Value = p
	}
	return httpsink.SumOf(all)
}

// reference names an invalidation at CloudFront: by its paths, so that no two
// contents share one, and by the time of the first attempt, so that a later
// change of the same paths has another.
func (s *Sink) reference(sum httpsink.Sum) string {
	now := s.now()
	if known, ok := s.references.Recall(sum, now); ok {
		return known
	}
	h := sha256.Sum256(strconv.AppendInt(sum[:], now.UnixNano(), 10))
	reference := "walpurge-" + hex.EncodeToString(h[:16])
	s.references.Remember(sum, reference, now)
	return reference
}

// checkedPath is a path that no site has.
const checkedPath = "/walpurge-check"

// Check reports whether the credentials may invalidate the distribution, by
// invalidating the path /walpurge-check: nothing else asks for this permission.
// It counts as one path and blocks like Purge.
func (s *Sink) Check(ctx context.Context) error {
	if err := s.Open(); err != nil {
		return err
	}
	bounded, cancel := s.Bound(ctx)
	defer cancel()
	return s.invalidate(bounded, []string{checkedPath})
}

// Paths is how many paths, prefixes and tags CloudFront has accepted since the
// sink was made: what it bills. It may be called at any time.
func (s *Sink) Paths() int64 { return s.accepted.Load() }
