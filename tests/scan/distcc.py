"""Makes scan_check lines from distcc's include-server vectors: distcc.py INCLUDE_SERVER CALLS."""

import json, os, sys
B=sys.argv[1]
out=open(sys.argv[2],'w')
T=B+'/test_data'
for r,ds,fs in os.walk(T):
    for f in sorted(fs):
        if not f.endswith(('.c','.h')): continue
        p=os.path.relpath(os.path.join(r,f),B); q=os.path.relpath(os.path.join(r,f),r)
        for a in ([],['-Itest_data'],['-Itest_data/dbar','-Itest_data/dfoo'],['-Itest_data/dfoo','-iquote','test_data/dbar'],['-Itest_data/test_include_next/i','-Itest_data/test_include_next/j','-Itest_data/test_computed_includes'],['-isystem','test_data/dfoo','-include','test_data/p1.h'],['-I-','-Itest_data/dbar','-Itest_data/dfoo','-Itest_data']):
            out.write(json.dumps({"dir":B,"args":['gcc']+a+['-c','-x','c',p]})+'\n')
        for a in ([],['-I.','-I..'],['-Idbar','-Idfoo'],['-I','i','-I','j']):
            out.write(json.dumps({"dir":r,"args":['gcc']+a+['-c','-x','c',q]})+'\n')
