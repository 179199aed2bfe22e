package cloudfront

import (
	"context"
	"errors"
	"fmt"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/service/cloudfront"
	"github.com/aws/smithy-go/logging"

	"github.com/walpurge/walpurge/sinks"
)

// maxBody bounds what is read of an answer, in bytes; a real one repeats the paths.
const maxBody = 8 << 20

// client returns the SDK's client, with credentials that are there. The chain is
// read when it is first needed, and again after forget.
func (s *Sink) client(ctx context.Context) (*cloudfront.Client, error) {
	if s.aws == nil {
		cfg, err := config.LoadDefaultConfig(ctx, config.WithRegion(s.cfg.Region), config.WithLogger(logging.Nop{}))
		if err != nil {
			return nil, s.noCredentials(ctx, "the AWS configuration cannot be read; check the files and variables of AWS's own tools (AWS_PROFILE and its kind)")
		}
		if cfg.Credentials == nil {
			return nil, s.noCredentials(ctx, "there are no AWS credentials")
		}
		s.credentials = cfg.Credentials
		s.aws = cloudfront.NewFromConfig(cfg, func(o *cloudfront.Options) {
			o.HTTPClient = s.HTTP
			// The lane retries, and knows what else waits.
			o.Retryer = aws.NopRetryer{}
			if s.cfg.BaseURL != "" {
				o.BaseEndpoint = aws.String(s.cfg.BaseURL)
			}
		})
	}
	// They are kept for as long as they are good.
	if _, err := s.credentials.Retrieve(ctx); err != nil {
		s.forget()
		return nil, s.noCredentials(ctx, "no AWS credentials are to be had; set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY or AWS_PROFILE, or give the container or the machine a role")
	}
	return s.aws, nil
}

// forget drops the client, so that the next call reads the chain again.
func (s *Sink) forget() { s.aws, s.credentials = nil, nil }

func (s *Sink) noCredentials(ctx context.Context, meaning string) error {
	if cause := ctx.Err(); cause != nil {
		return fmt.Errorf("cloudfront: %s: %w", meaning, cause)
	}
	return sinks.LaneError(errors.New("cloudfront: " + meaning))
}
