"""What programs tell of themselves to assistive technology."""
