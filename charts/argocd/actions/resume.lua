-- Takes the annotation of a pause out.
if obj.metadata.annotations ~= nil then
  obj.metadata.annotations["signalcanary.dev/pause"] = nil
end
return obj
