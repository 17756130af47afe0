"""What a person declares: values, units, Device and DeviceModel, manifests, CRDs."""
