"""Object storage that the SDKs' S3 clients push build contexts to."""
